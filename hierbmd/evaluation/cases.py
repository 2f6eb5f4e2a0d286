"""Cases: one image of a data set with what a model read from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import Bmd, DensityMap, is_too_young
from hierbmd.data.halves import Half, HalfCamera
from hierbmd.data.pairs import PairRecord, TrainingPair
from hierbmd.geometry import Camera
from hierbmd.io.dataset import Dataset

if TYPE_CHECKING:
    from hierbmd.predict import Predictor


@dataclass(frozen=True)
class Case:
    """One image: its record, what the model read, and its density images, (H, W) g/cm2; a model may predict none."""

    record: PairRecord
    bmd: Bmd
    density: DensityMap | None
    pair: TrainingPair


@dataclass(frozen=True)
class Readings:
    """BMD by image (n,): predicted and reference in g/cm2, whose images they are, and who is too young for a T-score.

    `too_young` is empty where no age is known.
    """

    predicted_g_cm2: NDArray[np.float64]
    reference_g_cm2: NDArray[np.float64]
    subjects: tuple[str, ...]
    hips: tuple[str, ...]
    too_young: tuple[bool, ...] = ()

    @classmethod
    def of(cls, records: Sequence[PairRecord], predicted_g_cm2: Sequence[float]) -> Readings:
        """The readings of the records, in order."""
        return cls(
            np.asarray(predicted_g_cm2, dtype=np.float64),
            np.array([record.bmd_g_cm2 for record in records], dtype=np.float64),
            tuple(record.subject for record in records),
            tuple(f"{record.subject} {record.side}" for record in records),
            tuple(is_too_young(record.age) for record in records),
        )

    def of_t_score_age(self) -> Readings:
        """The readings of those who have a T-score: not of patients known to be younger than 50."""
        if not any(self.too_young):
            return self
        kept = [n for n, young in enumerate(self.too_young) if not young]
        subjects, hips = (tuple(names[n] for n in kept) for names in (self.subjects, self.hips))
        return Readings(self.predicted_g_cm2[kept], self.reference_g_cm2[kept], subjects, hips)

    def by_patient(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predicted and reference BMD (patients,), of each patient's lower hip, images of one hip averaged first.

        ISCD diagnoses by the lowest T-score of the sites measured; one row a patient keeps the rows independent.
        """
        lowest = []
        for patient in sorted(set(self.subjects)):
            hips = sorted({hip for hip, subject in zip(self.hips, self.subjects, strict=True) if subject == patient})
            rows = [np.array([hip == name for hip in self.hips]) for name in hips]
            lowest.append([min(values[row].mean() for row in rows) for values in self._series])
        table = np.array(lowest, dtype=np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    @property
    def _series(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.predicted_g_cm2, self.reference_g_cm2


def half_of(pair: TrainingPair, dataset: Dataset) -> Half:
    """The half image that a pair's radiograph is, as `predict_half` takes it.

    The data set keeps the half's frame, side and distances, not where on the film it lay: the principal point is taken
    at the half's centre.
    """
    record, frame = pair.record, dataset.card.frame
    camera = Camera(record.sdd_mm, frame.size_px, frame.pixel_mm)
    geometry = HalfCamera(camera, record.side, record.view, record.mirrored)
    covered = np.ones(pair.radiograph.shape, dtype=np.bool_)
    return Half(pair.radiograph, covered, geometry, record.source_isocentre_mm, record.clinical)


def predicted_cases(predictor: Predictor, dataset: Dataset, records: Sequence[PairRecord]) -> Iterator[Case]:
    """Read every record's radiograph with the model, one after the other."""
    for record in records:
        pair = dataset.load(record)
        prediction = predictor.predict_half(half_of(pair, dataset))
        yield Case(record, prediction.bmd, prediction.density, pair)


def shown_pair_ids(records: Sequence[PairRecord], count: int) -> tuple[str, ...]:
    """Which images a report shows: one a patient, evenly spread over the reference BMD from lowest to highest.

    The choice looks at no prediction, so it can flatter none.
    """
    first = {record.subject: record for record in reversed(records)}
    by_bmd = sorted(first.values(), key=lambda record: record.bmd_g_cm2)
    places = np.linspace(0, len(by_bmd) - 1, min(count, len(by_bmd)))
    return tuple(by_bmd[round(place)].pair_id for place in places)
