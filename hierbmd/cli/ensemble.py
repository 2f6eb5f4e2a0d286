"""`hierbmd ensemble`: the runs of several folds as one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hierbmd.cli._options import parse
from hierbmd.options import option


@dataclass(frozen=True, kw_only=True)
class Options:
    """One model that averages the runs of a patient-grouped k-fold; predict and evaluate take it as any other."""

    runs: tuple[Path, ...] = option("run folders, each trained with another --data.folds.fold", positional=True)
    data: Path = option("the data set that they were trained on")
    out: Path = option("the model's folder: weights and card")


def main(argv: list[str]) -> int:
    """Run `hierbmd ensemble`; returns the exit status."""
    return run(parse("ensemble", Options, argv))


def run(options: Options) -> int:
    """Read what every run held out, and write the model."""
    from hierbmd.cli._progress import progress
    from hierbmd.training.ensemble import make_ensemble

    with progress("held-out patients") as on_run:
        card = make_ensemble(options.runs, options.data, options.out, on_run=on_run)
    print(f"{options.out}: {card.name}, {len(options.runs)} runs")
    return 0
