"""`hierbmd demo`: the whole chain on virtual patients, from nothing to a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.card import ModelCard, Stage
    from hierbmd.evaluation.run import Evaluation
    from hierbmd.io.dataset import Dataset

TRUTH_SOURCE = "simulation truth"
"""What `bmd_source` says of a reference that is the virtual patient's own density, not what its scan was read as."""

STAGES: tuple[Stage, ...] = ("decompose", "synthesize", "regress")
STEPS = ("simulate", "prepare", *STAGES, "evaluate")

_FEWEST_SUBJECTS = 6
_LOG = logging.getLogger(__name__)


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
    out = options.out
    steps = _Steps(out)
    with steps.timed("simulate"):
        _simulate(out / "cohort", options)
    with steps.timed("prepare"):
        _prepare(out / "cohort" / "manifest.csv", out / "dataset", options)
    before: Path | None = None
    for stage in STAGES:
        with steps.timed(stage):
            before = _train(stage, out, before, options)
    assert before is not None
    with steps.timed("evaluate"):
        evaluation, card = _evaluate(before, out, options)
    _report(out, evaluation, card, options, steps.seconds)


class _Steps:
    """Says which step runs, and adds up its seconds over interruptions in OUT/seconds.json."""

    def __init__(self, out: Path) -> None:
        from hierbmd.io.atomic import read_json

        self.path = out / "seconds.json"
        self.seconds: dict[str, float] = read_json(self.path) if self.path.is_file() else {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Run a step; its time counts even when it is stopped."""
        from hierbmd.io.atomic import write_json

        _LOG.info("step %d of %d: %s", STEPS.index(name) + 1, len(STEPS), name)
        start, earlier = time.monotonic(), self.seconds.get(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] = round(earlier + time.monotonic() - start, 1)
            write_json(self.path, self.seconds)


def _simulate(cohort: Path, options: Options) -> None:
    from hierbmd.cli._progress import progress
    from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions, StudyOptions
    from hierbmd.simulation.study import Recipe, simulate_study

    recipe = Recipe(
        PatientOptions(seed=options.seed, spacing_mm=4.0 if options.quick else 2.5),
        RadiographSimulationOptions(table=False),
        StudyOptions(subjects=options.subjects, train=0.64, val=0.10, test=0.26),
    )
    with progress("virtual patients") as on_subject:
        for done, _ in enumerate(simulate_study(cohort, recipe, workers=options.workers), start=1):
            on_subject(done, options.subjects)


def _prepare(manifest: Path, dataset: Path, options: Options) -> None:
    from hierbmd.cli._progress import progress
    from hierbmd.cohort import PrepareOptions, prepare
    from hierbmd.data.halves import HalfFrame
    from hierbmd.pairing.options import PairingOptions, RowOptions
    from hierbmd.registration.options import RegistrationOptions

    # The simulated patients lie near where registration starts; two starts that agree find them as well as six.
    pairing = PairingOptions(registration=RegistrationOptions(starts=2))
    if options.quick:
        coarse = RegistrationOptions(starts=1, level_pixel_mm=(8.0, 4.0))
        pairing = PairingOptions(frame=HalfFrame((64, 128), (3.2, 3.2)), registration=coarse)
    settings = PrepareOptions(row=RowOptions(pairing=pairing), workers=options.workers)
    with progress("training pairs") as on_patient:
        prepare(manifest, dataset, settings, progress=on_patient)


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


def with_true_bmd(dataset: Dataset, cohort: Path) -> Dataset:
    """The data set with each hip's BMD from the voxel truth of the simulation in place of what its CT was read as."""
    from hierbmd.io.atomic import read_json

    sides: dict[str, Any] = {s["subject"]: s["sides"] for s in read_json(cohort / "truth.json")["subjects"]}
    records = tuple(
        replace(r, bmd_g_cm2=sides[r.subject][r.side.value]["total_hip_bmd_g_cm2"], bmd_source=TRUTH_SOURCE)
        for r in dataset.records
    )
    return replace(dataset, records=records)
