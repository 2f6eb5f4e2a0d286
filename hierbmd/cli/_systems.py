"""The systems that a study compares: what each trains, and one training with all its readings as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hierbmd.baselines.registry import StudyPart
    from hierbmd.data.card import Stage

SYSTEMS: dict[str, tuple[tuple[Stage, tuple[str, ...]], ...]] = {
    "hierarchical": (("decompose", ()), ("synthesize", ()), ("regress", ())),
    "single_stage": (("synthesize", ("comparison/single_stage",)),),
    "direct_regression": (("regress", ("comparison/direct_regression",)),),
}
"""The stages that a system trains, one from the other, each with what is laid over the stage's own configuration."""

READINGS_FILE = "readings.json"


@dataclass(frozen=True)
class Training:
    """One system on one data set: `epochs` of each stage in order, overlays by stage."""

    system: str
    patients: int
    dataset: Path
    out: Path
    epochs: tuple[int, ...]
    overlays: Mapping[str, tuple[str, ...]]
    seed: int
    quick: bool = False

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


def epochs_of(system: str, hierarchical: tuple[int, ...], *, factor: float = 1.0) -> tuple[int, ...]:
    """A system's epochs by stage: all in all as many as the hierarchy's, so that every system makes as many steps.

    An epoch is one pass over the training pairs with one batch size for all, so equal epochs are equal steps.
    """
    scaled = tuple(max(1, round(factor * n)) for n in hierarchical)
    return scaled if len(SYSTEMS[system]) == len(hierarchical) else (sum(scaled),)


def train_and_read(task: Training | BaselineTraining) -> dict[str, float]:
    """Train what is not trained yet, and read every test image; BMD in g/cm2 by pair id."""
    if isinstance(task, BaselineTraining):
        from hierbmd.baselines.registry import baseline

        module = baseline(task.system)
        module.fit(task.dataset, task.model, module.study_options(task.part))
    else:
        _train(task)
    return _readings(task)


def _train(task: Training) -> None:
    from hierbmd.training.run import train

    before: Path | None = None
    for (stage, overlays), epochs in zip(SYSTEMS[task.system], task.epochs, strict=True):
        run = task.out / stage
        settings: dict[str, Any] = {"seed_everything": task.seed}
        if not task.quick:
            settings["trainer.max_epochs"] = epochs
        config = (*overlays, *task.overlays.get(stage, ()))
        train(stage, task.dataset, run, config=config, start_from=before, overrides=settings, progress=False)
        before = run


def _readings(task: Training | BaselineTraining) -> dict[str, float]:
    """What the model reads of the test images, kept beside it: again only by another model or of another data set."""
    from hierbmd.evaluation.cases import predicted_cases
    from hierbmd.io.atomic import read_json, write_json
    from hierbmd.io.dataset import read_dataset
    from hierbmd.predict import load_predictor

    predictor, dataset = load_predictor(task.model), read_dataset(task.dataset)
    records = dataset.of_split("test")
    readout = predictor.card.readout
    made_of = {
        "model_sha256": predictor.card.sha256,
        "line": None if readout is None else [readout.slope, readout.intercept],
        "images": [r.pair_id + r.radiograph_sha256 for r in records],
    }
    path = task.out / READINGS_FILE
    if path.is_file():
        stored = read_json(path)
        if {key: stored.get(key) for key in made_of} == made_of:
            return dict(stored["bmd_g_cm2"])
    read = {case.record.pair_id: case.bmd.value_g_cm2 for case in predicted_cases(predictor, dataset, records)}
    write_json(path, {**made_of, "bmd_g_cm2": read})
    return read
