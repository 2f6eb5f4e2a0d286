"""What a study finds: every system's figures on the test patients, pose precision, compression, learning curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hierbmd.data.density import RESEARCH_USE_ONLY, Reference, reference_for
from hierbmd.data.pairs import PairRecord
from hierbmd.evaluation.bootstrap import BootstrapOptions
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.comparison import MEAN_PREDICTOR, comparison, flat, mean_predictor, system_figures
from hierbmd.evaluation.files import versions
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.perturb import perturbations
from hierbmd.evaluation.precision import precision
from hierbmd.evaluation.robustness import RadiographFiles, Row, changes, first_images, robustness
from hierbmd.evaluation.summary import patient_mean_g_cm2
from hierbmd.io.dataset import Dataset, read_dataset

if TYPE_CHECKING:
    from hierbmd.predict import Predictor

MAIN = "hierarchical"
COMPARED = (MAIN, "single_stage", "direct_regression")


@dataclass(frozen=True)
class Curve:
    """One point of the learning curve: a system, on how many patients, over how many epochs (0: not by epochs)."""

    system: str
    patients: int
    epochs: int


@dataclass(frozen=True)
class StudyFound:
    """Everything known so far: the data set with its reference, what was read of the test images, what was perturbed.

    `read` holds BMD in g/cm2 by pair id for each point of the curve; `changed` the rows of `changes`; `transfer` is
    what `transfer_metrics` found on patients of another source, where there are any.
    """

    dataset: Dataset
    files: RadiographFiles | None
    options: EvaluationOptions
    read: Mapping[Curve, Mapping[str, float]] = field(default_factory=dict)
    changed: tuple[Row, ...] = ()
    transfer: Mapping[str, Any] | None = None

    @property
    def test(self) -> tuple[PairRecord, ...]:
        """The images of the patients never seen."""
        return self.dataset.of_split("test")

    @property
    def reference(self) -> Reference | None:
        """The young-adult reference of the region, None where there is none."""
        return reference_for(self.options.reference, self.dataset.card.region)

    @property
    def n_train(self) -> int:
        """How many patients there are to train on."""
        return len({record.subject for record in self.dataset.of_split("train")})

    @property
    def complete(self) -> bool:
        """Whether every system was trained on all patients."""
        return set(COMPARED) <= self._on_all().keys()

    def with_readings(self, point: Curve, read: Mapping[str, float]) -> StudyFound:
        """What is known with one more training."""
        return replace(self, read={**self.read, point: read})

    @property
    def mean_g_cm2(self) -> float:
        """What the mean predictor says."""
        training = self.dataset.of_split("train")
        return patient_mean_g_cm2(Readings.of(training, [record.bmd_g_cm2 for record in training]))

    def _on_all(self) -> dict[str, Readings]:
        """The readings of the systems trained on all patients, the hierarchy first."""
        there = {point.system: read for point, read in self.read.items() if point.patients == self.n_train}
        return {name: self._readings(there[name]) for name in self._systems if name in there}

    @property
    def _systems(self) -> tuple[str, ...]:
        """Those that every study has in their order, then the others by name."""
        return (*COMPARED, *sorted({point.system for point in self.read} - set(COMPARED)))

    def _readings(self, read: Mapping[str, float]) -> Readings:
        return Readings.of(self.test, [read[record.pair_id] for record in self.test])

    def metrics(self, *, quick: bool, seconds: Mapping[str, float]) -> dict[str, Any]:
        """The content of metrics.json."""
        systems = self._on_all()
        repeats = precision(systems[MAIN].predicted_g_cm2, systems[MAIN].hips)
        constant = self.mean_g_cm2
        systems[MEAN_PREDICTOR] = mean_predictor(systems[MAIN], constant)
        levels = robustness(
            self.changed, lsc=repeats.lsc, options=BootstrapOptions(self.options.bootstrap_samples, self.options.seed)
        )
        return {
            "n_train": self.n_train,
            "n_validation": len({record.subject for record in self.dataset.of_split("val")}),
            "n_test": len({record.subject for record in self.test}),
            "n_test_images": len(self.test),
            "seed": self.options.seed,
            "mean_predictor_g_cm2": constant,
            **comparison(systems, self.options, reference=self.reference),
            **pose_figures(systems[MAIN]),
            "jpeg_within_lsc": _shares(levels, "jpeg "),
            "jpeg2000_within_lsc": _shares(levels, "jpeg2000 "),
            "robustness": levels,
            "learning_curve": self._curve(),
            **({} if self.transfer is None else {"transfer": dict(self.transfer)}),
            "points": _points(systems[MAIN]),
            "region": self.dataset.card.region,
            "simulated": self.dataset.card.simulated,
            "bmd_sources": sorted({record.bmd_source for record in self.test}),
            "training_bmd_sources": sorted({r.bmd_source for r in read_dataset(self.dataset.folder).of_split("train")}),
            "quick": quick,
            "seconds": dict(seconds),
            "versions": versions(),
            "bootstrap_samples": self.options.bootstrap_samples,
            "research_use_only": RESEARCH_USE_ONLY,
        }

    def _curve(self) -> list[dict[str, Any]]:
        """A row for each training, by system and number of patients."""
        order = {name: place for place, name in enumerate(self._systems)}
        points = sorted(self.read, key=lambda point: (order[point.system], point.patients))
        return [
            {
                "system": point.system,
                "patients": point.patients,
                "epochs": point.epochs,
                **flat(system_figures(self._readings(self.read[point]), self.options, reference=self.reference)),
            }
            for point in points
        ]


def compressed(
    predictor: Predictor, found: StudyFound, *, on_image: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Row, ...]:
    """What compression does to the BMD of the first image of each test hip."""
    images, applied = first_images(found.test), perturbations("compression")
    return tuple(changes(predictor, found.dataset, images, applied, files=found.files, on_image=on_image))


def pose_figures(readings: Readings) -> dict[str, Any]:
    """Precision over the images of each hip, as flat keys of metrics.json."""
    repeats = precision(readings.predicted_g_cm2, readings.hips)
    named = {
        "pose_rms_cv_percent": repeats.rms_cv,
        "pose_rms_sd_g_cm2": repeats.rms_sd,
        "lsc_percent": repeats.lsc_percent,
        "lsc_g_cm2": repeats.lsc,
    }
    return {**flat(named), "pose_degrees_of_freedom": repeats.degrees_of_freedom, "pose_hips": repeats.groups}


def _shares(levels: list[dict[str, Any]], prefix: str) -> dict[str, float | None]:
    """The share within the LSC by quality or ratio."""
    return {
        level["name"].removeprefix(prefix): level["within_lsc"]["value"]
        for level in levels
        if level["name"].startswith(prefix)
    }


def _points(readings: Readings) -> list[list[float]]:
    """Reference and predicted BMD of every image, for a plot."""
    pairs = zip(readings.reference_g_cm2.tolist(), readings.predicted_g_cm2.tolist(), strict=True)
    return [[round(x, 5), round(y, 5)] for x, y in pairs]
