"""`hierbmd train-baseline NAME`: a system to compare with. The options past the first two are those of the baseline."""

from __future__ import annotations

import sys
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

from hierbmd.baselines.registry import BASELINES, baseline
from hierbmd.cli._options import parse
from hierbmd.options import option, part

_USAGE = "usage: hierbmd train-baseline NAME --data DATASET --out RUN [OPTIONS]"


def main(argv: list[str]) -> int:
    """Run `hierbmd train-baseline`; returns the exit status."""
    if not argv or argv[0].startswith("-"):
        asked = bool(argv) and argv[0] in ("-h", "--help")
        print(_help_text(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    from hierbmd.cli._progress import progress

    module = baseline(argv[0])
    options: Any = parse(f"train-baseline {argv[0]}", _options_with(module.Options), argv[1:])
    card = module.fit(options.data, options.out, options.settings, progress=progress)
    print(f"{options.out}: {card.name}")
    return 0


def _options_with(settings: type) -> type:
    """The command's own options with the baseline's beside them."""
    own = [
        ("data", Path, option("the data set's folder, from hierbmd prepare")),
        ("out", Path, option("the run's folder: weights, card and what was found")),
        ("settings", settings, field(metadata=part())),
    ]
    made = make_dataclass(settings.__name__, own, frozen=True, kw_only=True)
    made.__doc__ = settings.__doc__
    return made


def _help_text() -> str:
    lines = [_USAGE, "", "The systems that the hierarchy is compared with:"]
    lines += [f"  {name}" for name in BASELINES]
    return "\n".join([*lines, "", "hierbmd train-baseline NAME --help says what one takes."])
