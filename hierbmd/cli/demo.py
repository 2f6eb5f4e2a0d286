"""`hierbmd demo`: the whole chain on virtual patients, from nothing to a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.cli._chain import Steps, prepare_pairs, simulate_patients, with_true_bmd
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.card import ModelCard, Stage
    from hierbmd.evaluation.run import Evaluation

STAGES: tuple[Stage, ...] = ("decompose", "synthesize", "regress")
STEPS = ("simulate", "prepare", *STAGES, "evaluate")

_FEWEST_SUBJECTS = 6


@dataclass(frozen=True)
class Options:
    """All of it on virtual patients: simulate, prepare, three stages, evaluation on patients never seen, a report."""

    out: Path = option("folder for everything; report.html and metrics.json are in it")
    subjects: int = option("how many virtual patients; a quarter is kept for the end", 108)
    seed: int = option("seed of the patients, their splits and the intervals", 0)
    workers: int = option("processes for simulating and preparing", 2)
    quick: bool = option("the smallest run of every step: shows that all works, and nothing about accuracy", False)

    def __post_init__(self) -> None:
        if self.subjects < _FEWEST_SUBJECTS or self.workers < 1 or self.seed < 0:
            raise BadConfig(
                "out of range",
                where=f"subjects {self.subjects}, workers {self.workers}, seed {self.seed}",
                mend=f"at least {_FEWEST_SUBJECTS} subjects, 1 worker and seed 0",
            )


def main(argv: list[str]) -> int:
    """Run `hierbmd demo`; returns the exit status."""
    options = parse("demo", Options, argv)
    demo(options)
    print(options.out / "report.html")
    return 0


def demo(options: Options) -> None:
    """Run every step into `options.out`, each going on where it stopped when called again."""
    from hierbmd.simulation.options import StudyOptions

    out, workers, quick = options.out, options.workers, options.quick
    steps = Steps(out, STEPS)
    study = StudyOptions(subjects=options.subjects, train=0.64, val=0.10, test=0.26)
    with steps.timed("simulate"):
        simulate_patients(out / "cohort", study, seed=options.seed, workers=workers, quick=quick)
    with steps.timed("prepare"):
        prepare_pairs(out / "cohort" / "manifest.csv", out / "dataset", workers=workers, quick=quick)
    before: Path | None = None
    for stage in STAGES:
        with steps.timed(stage):
            before = _train(stage, out, before, options)
    assert before is not None
    with steps.timed("evaluate"):
        evaluation, card = _evaluate(before, out, options)
    _report(out, evaluation, card, options, steps.seconds)


def _train(stage: Stage, out: Path, before: Path | None, options: Options) -> Path:
    from hierbmd.training.run import train

    run = out / "runs" / stage
    train(stage, out / "dataset", run, start_from=before, config=("smoke",) if options.quick else ())
    return run


def _evaluate(model: Path, out: Path, options: Options) -> tuple[Evaluation, ModelCard]:
    from hierbmd.cli._progress import progress
    from hierbmd.evaluation.options import EvaluationOptions
    from hierbmd.evaluation.run import evaluate
    from hierbmd.io.dataset import read_dataset
    from hierbmd.predict import load_predictor

    predictor, dataset = load_predictor(model), read_dataset(out / "dataset")
    settings = EvaluationOptions(seed=options.seed, bootstrap_samples=200 if options.quick else 2000)
    with progress("reading radiographs") as on_image:
        found = evaluate(predictor, with_true_bmd(dataset, out / "cohort"), settings, on_image=on_image)
    return found, predictor.card


def _report(out: Path, found: Evaluation, card: ModelCard, options: Options, seconds: dict[str, float]) -> None:
    from hierbmd.evaluation.files import write_evaluation
    from hierbmd.report.page import write_report

    extra = {"seconds": seconds, "quick": options.quick, "n_virtual_patients": options.subjects}
    write_evaluation(out, found, model=card, extra=extra)
    write_report(out, out / "dataset", title="hierbmd demo: virtual patients never seen")
