"""`hierbmd crossvalidate`: every fold of a repeated k-fold trained, and what each reads of whom it held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.cli._systems import Training, epochs_of, overlays_of, require_epochs, train_all, train_system
from hierbmd.errors import BadConfig
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.options import option, part

if TYPE_CHECKING:
    from collections.abc import Iterator

Name = Literal["hierarchical", "single_stage", "direct_regression"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Repeated patient-grouped k-fold: trains a system on each fold, and reads the patients that it held out."""

    data: Path = option("the data set's folder, from hierbmd prepare; its train and val patients are pooled")
    out: Path = option("folder for runs/, metrics.json, figures.csv, predictions.csv and report.html")
    folds: int = option("how many folds of the patients", 5)
    repeats: int = option("how often, each time in other folds", 1)
    fold_seed: int = option("seed of the folds", 0)
    system: Name = option("hierarchical, single_stage or direct_regression", "hierarchical")
    epochs: tuple[int, ...] = option("epochs of decompose, synthesize and regress", (16, 16, 8))
    overlays: tuple[str, ...] = option("YAML laid over a training: SYSTEM.STAGE=NAME", ())
    workers: int = option("folds that train side by side", 1)
    evaluation: EvaluationOptions = field(
        default_factory=EvaluationOptions, metadata=part(only=("reference", "bootstrap_samples", "seed"))
    )
    quick: bool = option("the smallest run of every step: shows that all works, and nothing about accuracy", False)

    def __post_init__(self) -> None:
        if self.folds < 2 or self.repeats < 1 or self.workers < 1 or min(self.evaluation.seed, self.fold_seed) < 0:
            raise BadConfig(
                "out of range",
                where=f"folds {self.folds}, repeats {self.repeats}, workers {self.workers}",
                mend="at least 2 folds, 1 repeat, 1 worker and seed 0",
            )
        require_epochs(self.epochs)
        overlays_of(self.system, self.overlays)


def main(argv: list[str]) -> int:
    """Run `hierbmd crossvalidate`; returns the exit status."""
    options = parse("crossvalidate", Options, argv)
    crossvalidate(options)
    print(options.out / "report.html")
    return 0


def crossvalidate(options: Options) -> None:
    """Train what is not trained yet, then read and report; goes on where it stopped when called again."""
    from hierbmd.cli._folds import evaluate_folds
    from hierbmd.io.dataset import read_dataset

    patients = len({record.subject for record in read_dataset(options.data).of_split("train", "val")})
    tasks = list(planned(options, patients))
    for _ in train_all(train_system, tasks, options.workers):
        pass
    evaluate_folds([task.model for task in tasks], options.data, options.out, options.evaluation, quick=options.quick)


def planned(options: Options, patients: int) -> Iterator[Training]:
    """A training for each fold of each repeat, the first repeat whole before the second begins."""
    for repeat in range(options.repeats):
        for fold in range(options.folds):
            yield Training(
                system=options.system,
                patients=patients - patients // options.folds,
                dataset=options.data,
                out=options.out / "runs" / f"repeat{repeat}" / f"fold{fold}",
                epochs=epochs_of(options.system, options.epochs),
                overlays=overlays_of(options.system, options.overlays, quick=options.quick),
                seed=options.evaluation.seed,
                quick=options.quick,
                folds={"folds": options.folds, "fold": fold, "repeat": repeat, "seed": options.fold_seed},
            )
