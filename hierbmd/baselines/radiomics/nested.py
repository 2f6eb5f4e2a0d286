"""What models say of patients that they did not learn from: folds, and folds within folds for thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.baselines.radiomics.features import FeatureTable
from hierbmd.baselines.radiomics.options import Options
from hierbmd.baselines.radiomics.pipeline import Condition, condition_of, fitted
from hierbmd.data.pairs import PairRecord
from hierbmd.data.splits import fold_strata, grouped_folds
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.estimate import Undefined
from hierbmd.evaluation.screening import sensitivity_threshold

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Images as one model sees them: features X (n, p), NaN where not known, and the record of each."""

    X: Matrix
    records: tuple[PairRecord, ...]

    @classmethod
    def of(cls, table: FeatureTable, columns: Sequence[str]) -> Rows:
        """The rows of a table in the model's columns."""
        return cls(table.of(columns), table.records)

    def at(self, rows: NDArray[np.intp]) -> Rows:
        """Some of the rows."""
        return Rows(self.X[rows], tuple(self.records[i] for i in rows))

    @property
    def subjects(self) -> tuple[str, ...]:
        """The patient of each row."""
        return tuple(record.subject for record in self.records)

    @property
    def bmd_g_cm2(self) -> NDArray[np.float64]:
        """The reference BMD of each row, (n,)."""
        return np.array([record.bmd_g_cm2 for record in self.records], dtype=np.float64)


@dataclass(frozen=True)
class HeldOut:
    """What each training image was read as by the model that did not learn from its patient.

    `read` (n, 2) BMD and probability; `thresholds` (n,) the probability from which DXA is recommended, chosen within
    the training patients of the image's fold, NaN where none could be.
    """

    read: Matrix
    thresholds: NDArray[np.float64]


def held_out(rows: Rows, options: Options) -> HeldOut:
    """Read every image by folds over patients; each fold's threshold comes from folds within its training patients.

    Imputation, scale, selection, networks and threshold are all learnt anew in every fold. BadConfig for fewer patients
    than folds.
    """
    thresholds = np.full(len(rows.records), np.nan)
    read = np.full((len(rows.records), 2), np.nan)
    for train, left in _parts(rows, options.folds, options.seed):
        learnt = rows.at(train)
        read[left] = _read(learnt, rows.X[left], options)
        within = np.full((len(train), 2), np.nan)
        for inner, inner_left in _parts(learnt, options.inner_folds, options.seed + 1):
            within[inner_left] = _read(learnt.at(inner), learnt.X[inner_left], options)
        chosen, _ = dxa_threshold(learnt, within, options)
        thresholds[left] = np.nan if chosen is None else chosen
    return HeldOut(read, thresholds)


def _read(learnt: Rows, X: Matrix, options: Options) -> Matrix:
    return np.asarray(fitted(options, learnt.X, learnt.bmd_g_cm2, learnt.subjects).predict(X))


def _parts(rows: Rows, folds: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Row numbers to learn from and those left out, fold after fold."""
    subjects = np.asarray(rows.subjects)
    lowest = {name: float(rows.bmd_g_cm2[subjects == name].min()) for name in dict.fromkeys(rows.subjects)}
    for fold in grouped_folds(lowest, folds, seed=seed, strata=fold_strata(lowest, folds)):
        left = np.isin(subjects, fold.held_out)
        yield np.flatnonzero(~left), np.flatnonzero(left)


def dxa_threshold(rows: Rows, read: Matrix, options: Options) -> tuple[float | None, str]:
    """The probability from which DXA is recommended, so that the stated share of positive patients is; or why none.

    `read` (n, 2) is of images whose patients the model did not learn from.
    """
    if np.isnan(read[:, 1]).any():
        return None, "no threshold: one class only in a fold's training patients"
    risk, positive = by_patient(rows, read[:, 1], condition_of(options))
    try:
        return -sensitivity_threshold(-risk, positive, options.sensitivity), ""
    except Undefined as reason:
        return None, str(reason)


def by_patient(
    rows: Rows, risk: NDArray[np.float64], condition: Condition
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The risk of each patient's worse hip, and who has the condition by the lower hip; (patients,) each.

    Patients too young for a T-score are left out.
    """
    worst, lowest = Readings.of(rows.records, (-risk).tolist()).of_t_score_age().by_patient()
    return -worst, condition.of(lowest)
