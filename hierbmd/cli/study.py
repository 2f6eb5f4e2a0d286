"""`hierbmd study`: the hierarchy and what it is compared with, trained alike, and how good each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.baselines.registry import StudyPart, baseline
from hierbmd.cli._chain import (
    Steps,
    StudiedRegion,
    joined_manifest,
    prepare_pairs,
    simulate_patients,
    with_true_bmd,
)
from hierbmd.cli._options import parse
from hierbmd.cli._systems import (
    SYSTEMS,
    BaselineTraining,
    Task,
    Training,
    epochs_of,
    overlays_of,
    require_epochs,
    train_all,
    train_and_read,
)
from hierbmd.cli._transfer import require_source, transferred
from hierbmd.errors import BadConfig
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.evaluation.robustness import RadiographFiles
    from hierbmd.evaluation.study import StudyFound
    from hierbmd.io.dataset import Dataset

STEPS = ("simulate", "prepare", "train and read", "transfer", "report")
MAIN = "hierarchical"
_FEWEST = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hierarchical learning against one stage and direct regression, with pose, compression and learning curve."""

    out: Path = option("folder for everything; metrics.json and report.html are in it")
    data: Path | None = option("a prepared data set with train, val and test in place of virtual patients", None)
    manifest: Path | None = option("the manifest that --data was prepared from, to compress whole radiographs", None)
    region: StudiedRegion = option(
        "what is read of virtual patients: total_hip, or lumbar_l1_l4 from lumbar radiographs of the same", "total_hip"
    )
    patients: int = option("virtual patients to train on", 100)
    validation: int = option("virtual patients from whom the models' intervals come", 20)
    test: int = option("virtual patients never seen, of another seed", 50)
    poses: int = option("radiographs of each test patient, at poses of their own", 4)
    sizes: tuple[int, ...] = option("training patients of the learning curve, beside all of them", (25, 50))
    epochs: tuple[int, ...] = option("epochs of decompose, synthesize and regress on all patients", (16, 16, 8))
    baselines: tuple[str, ...] = option("systems of hierbmd train-baseline, trained on the same patients", ())
    overlays: tuple[str, ...] = option("YAML laid over a training: SYSTEM.STAGE=NAME", ())
    transfer: tuple[Path, ...] = option(
        "patients of another source, read and never learnt from: CT,LABELS of real CTs, a manifest, or a data set", ()
    )
    transfer_patients: int = option("how many patients are made from each real CT of --transfer", 12)
    seed: int = option("seed of patients, samples, trainings and intervals", 0)
    workers: int = option("processes for every step", 2)
    bootstrap_samples: int = option("how often patients are drawn again for the intervals", 2000)
    quick: bool = option("the smallest run of every step: shows that all works, and nothing about accuracy", False)

    def __post_init__(self) -> None:
        fewest = min(self.patients, self.test, self.validation, self.transfer_patients, *self.sizes)
        if fewest < _FEWEST or self.poses < 1 or self.workers < 1 or self.seed < 0:
            raise BadConfig(
                "out of range",
                where=f"patients {self.patients}, validation {self.validation}, test {self.test}, sizes {self.sizes}",
                mend=f"at least {_FEWEST} patients each, 1 pose, 1 worker and seed 0",
            )
        require_epochs(self.epochs)
        overlays_of(MAIN, self.overlays)
        require_source(self.transfer)
        for name in self.baselines:
            baseline(name)


def main(argv: list[str]) -> int:
    """Run `hierbmd study`; returns the exit status."""
    options = parse("study", Options, argv)
    study(options)
    print(options.out / "report.html")
    return 0


def study(options: Options) -> None:
    """Run every step into `options.out`, each going on where it stopped when called again.

    metrics.json is written as soon as every system has been trained on all patients, and again as the learning curve
    and the baselines come in: a study that is stopped has what it has found. A baseline that is added to a finished
    study trains itself alone.
    """
    from hierbmd.io.dataset import read_dataset

    region = options.region if options.data is None else read_dataset(options.data).card.region
    for name in options.baselines:
        baseline(name).require(region)
    steps = Steps(options.out, STEPS)
    dataset, files = _data(options, steps)
    found = _begin(dataset, files, options)
    trainings = list(planned(dataset, options))
    with steps.timed("train and read"):
        # The baselines are built on the hierarchy's runs, so they wait for these.
        compared = compared_with(trainings, options)
        done: Iterator[tuple[Task, dict[str, float]]] = chain(
            train_all(train_and_read, trainings, options.workers), train_all(train_and_read, compared, options.workers)
        )
        for training, read in done:
            found = _with(found, training, read)
            if found.complete:
                _write(found, options, steps)
    if options.transfer:
        models = {one.system: one.model for one in trainings if one.patients == found.n_train}
        with steps.timed("transfer"):
            found = replace(found, transfer=transferred(found, models, options))
    with steps.timed("report"):
        _write(found, options, steps)


def planned(dataset: Dataset, options: Options) -> Iterator[Training]:
    """Every training in order of importance: all systems on all patients, then on ever more of them.

    A smaller sample makes more passes, by the square root of how much smaller it is, and so fewer steps; at one size
    all systems make as many. Spines, one image where there are two hips, are passed twice as often. A sample's data set
    has the other training patients in no split.
    """
    from hierbmd.data.site import site_of
    from hierbmd.data.subsets import nested_samples
    from hierbmd.io.dataset import read_dataset, write_view

    # As it was prepared: a model learns what a CT was read as, whatever reference it is judged by.
    dataset = read_dataset(dataset.folder)
    site = site_of(dataset.card.region)
    bmd: dict[str, list[float]] = {}
    for record in dataset.of_split("train"):
        bmd.setdefault(record.subject, []).append(record.bmd_g_cm2)
    sizes = tuple(sorted({n for n in options.sizes if n < len(bmd)}))
    samples = nested_samples({name: sum(x) / len(x) for name, x in bmd.items()}, sizes, seed=options.seed)
    for size in (len(bmd), *sizes):
        folder, factor = dataset.folder, (1 if site.paired else 2) * sqrt(len(bmd) / size)
        if size in samples:
            folder = options.out / "samples" / f"{size:04d}"
            kept = set(samples[size])
            records = (r if r.split != "train" or r.subject in kept else replace(r, split="") for r in dataset.records)
            write_view(folder, replace(dataset, records=tuple(records)))
        for system in SYSTEMS:
            yield Training(
                system,
                size,
                folder,
                options.out / "runs" / ("all" if size == len(bmd) else f"{size:04d}") / system,
                epochs_of(system, options.epochs, factor=factor),
                overlays_of(system, options.overlays, quick=options.quick, spine=not site.paired),
                options.seed,
                options.quick,
            )


def compared_with(trainings: Sequence[Training], options: Options) -> list[BaselineTraining]:
    """The trainings of the baselines, beside each of the hierarchy's."""
    return [
        BaselineTraining(
            name,
            one.patients,
            one.out.parent / name,
            StudyPart(one.dataset, {stage: one.out / stage for stage, _ in SYSTEMS[MAIN]}, options.seed, options.quick),
        )
        for one in trainings
        if one.system == MAIN
        for name in options.baselines
    ]


def _data(options: Options, steps: Steps) -> tuple[Dataset, RadiographFiles | None]:
    """The data set with its reference BMD, and the files of its radiographs where they are known."""
    from hierbmd.evaluation.robustness import RadiographFiles
    from hierbmd.io.dataset import read_dataset
    from hierbmd.simulation.options import StudyOptions

    if options.data is not None:
        files = None if options.manifest is None else RadiographFiles.of_manifest(options.manifest)
        return read_dataset(options.data), files
    cohort, prepared, region = options.out / "cohort", options.out / "dataset", options.region
    workers, quick = options.workers, options.quick
    learnt = options.patients + options.validation
    train = options.patients / learnt
    learn = StudyOptions(subjects=learnt, train=train, val=1.0 - train, test=0.0)
    test = StudyOptions(subjects=options.test, poses=options.poses, train=0.0, val=0.0, test=1.0)
    with steps.timed("simulate"):
        for number, (name, who) in enumerate((("learn", learn), ("test", test))):
            seed = 2 * options.seed + number
            simulate_patients(cohort / name, who, seed=seed, workers=workers, quick=quick, region=region)
        manifest = joined_manifest(cohort, ("learn", "test"))
    with steps.timed("prepare"):
        prepare_pairs(manifest, prepared, workers=workers, quick=quick, region=region)
    dataset = with_true_bmd(read_dataset(prepared), cohort / "learn", cohort / "test")
    return dataset, RadiographFiles.of_manifest(manifest)


def _begin(dataset: Dataset, files: RadiographFiles | None, options: Options) -> StudyFound:
    from hierbmd.evaluation.options import EvaluationOptions
    from hierbmd.evaluation.study import StudyFound

    settings = EvaluationOptions(seed=options.seed, bootstrap_samples=options.bootstrap_samples)
    return StudyFound(dataset, files, settings)


def _with(found: StudyFound, training: Task, read: Mapping[str, float]) -> StudyFound:
    """What is known after a training; the hierarchy on all patients is shown in full and its images are perturbed."""
    from hierbmd.cli._progress import progress
    from hierbmd.evaluation.files import write_evaluation
    from hierbmd.evaluation.run import evaluate
    from hierbmd.evaluation.study import Curve, compressed
    from hierbmd.predict import load_predictor
    from hierbmd.report.page import write_report

    found = found.with_readings(Curve(training.system, training.patients, sum(training.epochs)), read)
    if training.system != MAIN or training.patients != found.n_train:
        return found
    predictor = load_predictor(training.model)
    folder = training.out.parent.parent.parent / "hierarchical"
    evaluation = evaluate(predictor, found.dataset, found.options)
    write_evaluation(folder, evaluation, model=predictor.card)
    write_report(folder, found.dataset.folder, title="The hierarchy of the study")
    with progress("compressed radiographs") as on_image:
        return replace(found, changed=compressed(predictor, found, on_image=on_image))


def _write(found: StudyFound, options: Options, steps: Steps) -> None:
    from hierbmd.report.study import write_study

    write_study(options.out, found.metrics(quick=options.quick, seconds=steps.seconds))
