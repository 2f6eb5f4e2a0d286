"""`hierbmd train STAGE`: teach one stage. The options past the first four are those of the stage's configuration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

STAGES = ("pretrain", "decompose", "synthesize", "regress")

_EPILOG = """\
Every key of the stage's configuration is an option, too: --trainer.max_epochs 3, --model.weights.l1 50.
  --print_config          the whole configuration as YAML, with everything laid over it
  --config smoke          a run of seconds, to see that all works
  --data.folds.folds 5 --data.folds.fold 0    hold out a fifth of the patients; hierbmd ensemble joins the runs
The same command again resumes a run that was stopped.
`hierbmd train decompose --help_keys` lists every key."""


def main(argv: list[str]) -> int:
    """Run `hierbmd train`; returns the exit status."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    only_looking = {"--print_config", "--help_keys"} & {argument.split("=")[0] for argument in rest}
    if not only_looking and (options.data is None or options.out is None):
        parser.error("--data and --out are required")
    from hierbmd.training.run import configure, train

    if only_looking:
        rest = ["--help" if argument == "--help_keys" else argument for argument in rest]
        from hierbmd.training.configure import config_path

        configure(options.stage, [*(f"--config={config_path(c)}" for c in options.config), *rest])
        return 0
    card = train(
        options.stage, options.data, options.out, config=options.config, start_from=options.start, overrides=rest
    )
    print(f"{options.out}: {card.name}", file=sys.stdout)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "hierbmd train",
        description="Teach one stage of the hierarchy on a prepared data set.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "stage",
        choices=STAGES,
        help="decompose, synthesize, regress, in this order; pretrain may come before",
    )
    parser.add_argument("--data", type=Path, help="the data set's folder, from hierbmd prepare")
    parser.add_argument("--out", type=Path, help="the run's folder: weights, card, curves, samples, checkpoints")
    parser.add_argument("--from", dest="start", type=Path, help="the run of the stage before")
    parser.add_argument("--config", action="append", default=[], help="YAML laid over the stage's own; may be repeated")
    return parser
