"""The systems that can be compared: what each trains, and one training as a task that several processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hierbmd.errors import BadConfig, ProcessDied

if TYPE_CHECKING:
    from hierbmd.baselines.registry import StudyPart
    from hierbmd.data.card import Stage
    from hierbmd.data.pairs import PairRecord
    from hierbmd.io.dataset import Dataset

SYSTEMS: dict[str, tuple[tuple[Stage, tuple[str, ...]], ...]] = {
    "hierarchical": (("decompose", ()), ("synthesize", ()), ("regress", ())),
    "single_stage": (("synthesize", ("comparison/single_stage",)),),
    "direct_regression": (("regress", ("comparison/direct_regression",)),),
}
"""The stages that a system trains, one from the other, each with what is laid over the stage's own configuration."""

READINGS_FILE = "readings.json"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Training:
    """One system on one data set: `epochs` of each stage in order, overlays by stage, `folds` as FoldChoice has it."""

    system: str
    patients: int
    dataset: Path
    out: Path
    epochs: tuple[int, ...]
    overlays: Mapping[str, tuple[str, ...]]
    seed: int
    quick: bool = False
    folds: Mapping[str, int] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The run folder of the last stage."""
        return self.out / SYSTEMS[self.system][-1][0]


@dataclass(frozen=True)
class BaselineTraining:
    """One baseline on one data set, of which the hierarchy's runs are made already."""

    system: str
    patients: int
    out: Path
    part: StudyPart

    @property
    def dataset(self) -> Path:
        """The data set's folder."""
        return self.part.data

    @property
    def model(self) -> Path:
        """The run folder."""
        return self.out / "model"

    @property
    def epochs(self) -> tuple[int, ...]:
        """None that could be counted against a stage's."""
        return ()


Task = Training | BaselineTraining
Trained = TypeVar("Trained", Training, BaselineTraining)


def epochs_of(system: str, hierarchical: tuple[int, ...], *, factor: float = 1.0) -> tuple[int, ...]:
    """A system's epochs by stage: all in all as many as the hierarchy's, so that every system makes as many steps.

    An epoch is one pass over the training pairs with one batch size for all, so equal epochs are equal steps.
    """
    scaled = tuple(max(1, round(factor * n)) for n in hierarchical)
    return scaled if len(SYSTEMS[system]) == len(hierarchical) else (sum(scaled),)


def require_epochs(epochs: Sequence[int]) -> None:
    """BadConfig unless they are the hierarchy's: three numbers above zero."""
    if len(epochs) != len(SYSTEMS["hierarchical"]) or min(epochs) < 1:
        raise BadConfig("epochs are of three stages", where=f"epochs {tuple(epochs)}", mend="such as 16,16,8")


def overlays_of(
    system: str, texts: Sequence[str], *, quick: bool = False, spine: bool = False
) -> dict[str, tuple[str, ...]]:
    """What is laid over each stage of a system, of texts SYSTEM.STAGE=NAME; BadConfig for one that names nothing.

    The spine's own configurations come before what is named.
    """
    named: dict[str, tuple[str, ...]] = {stage: (f"spine/{stage}",) for stage, _ in SYSTEMS[system] if spine}
    for text in texts:
        name, equals, config = text.partition("=")
        whose, _, stage = name.partition(".")
        if not equals or not config or stage not in [one for one, _ in SYSTEMS.get(whose, ())]:
            known = ", ".join(f"{system}.{stage}" for system, stages in SYSTEMS.items() for stage, _ in stages)
            raise BadConfig("no overlay SYSTEM.STAGE=NAME", where=text, mend=f"known: {known}")
        if whose == system:
            named[stage] = (*named.get(stage, ()), config)
    if quick:
        named = {stage: (*named.get(stage, ()), "smoke") for stage, _ in SYSTEMS[system]}
    return named


def train_system(task: Training) -> None:
    """Train what is not trained yet, each stage from the one before."""
    from hierbmd.training.run import train

    before: Path | None = None
    for (stage, overlays), epochs in zip(SYSTEMS[task.system], task.epochs, strict=True):
        run = task.out / stage
        settings: dict[str, Any] = {"seed_everything": task.seed}
        settings |= {f"data.folds.{name}": value for name, value in task.folds.items()}
        if not task.quick:
            settings["trainer.max_epochs"] = epochs
        config = (*overlays, *task.overlays.get(stage, ()))
        train(stage, task.dataset, run, config=config, start_from=before, overrides=settings, progress=False)
        before = run


def train_and_read(task: Task) -> dict[str, float]:
    """Train what is not trained yet, and read every test image; BMD in g/cm2 by pair id."""
    from hierbmd.baselines.registry import baseline
    from hierbmd.io.dataset import read_dataset

    if isinstance(task, BaselineTraining):
        module = baseline(task.system)
        module.fit(task.dataset, task.model, module.study_options(task.part))
    else:
        train_system(task)
    dataset = read_dataset(task.dataset)
    return readings(task.model, dataset, dataset.of_split("test"), kept=task.out / READINGS_FILE)


def train_all(
    do: Callable[[Trained], Result], trainings: Sequence[Trained], workers: int
) -> Iterator[tuple[Trained, Result]]:
    """Each training with what `do` gives for it, in the order in which they are done; ProcessDied when one died."""
    from hierbmd.cli._progress import progress
    from hierbmd.parallel import in_processes

    with progress("trainings") as on_training:
        for number, (training, given) in enumerate(in_processes(do, trainings, workers=workers), start=1):
            what = f"{training.system} on {training.patients} patients"
            if isinstance(given, ProcessDied):
                raise ProcessDied(given.what, where=what, mend="fewer --workers, then call it again")
            on_training(number, len(trainings), what)
            yield training, given


def readings(model: Path, dataset: Dataset, records: Sequence[PairRecord], *, kept: Path) -> dict[str, float]:
    """What a model reads of images, g/cm2 by pair id, in the file `kept`: again only by another model or of others."""
    from hierbmd.evaluation.cases import predicted_cases
    from hierbmd.io.atomic import read_json, write_json
    from hierbmd.predict import load_predictor

    predictor = load_predictor(model)
    readout = predictor.card.readout
    made_of = {
        "model_sha256": predictor.card.sha256,
        "line": None if readout is None else [readout.slope, readout.intercept],
        "images": [r.pair_id + r.radiograph_sha256 for r in records],
    }
    if kept.is_file():
        stored = read_json(kept)
        if {key: stored.get(key) for key in made_of} == made_of:
            return dict(stored["bmd_g_cm2"])
    read = {case.record.pair_id: case.bmd.value_g_cm2 for case in predicted_cases(predictor, dataset, records)}
    write_json(kept, {**made_of, "bmd_g_cm2": read})
    return read
