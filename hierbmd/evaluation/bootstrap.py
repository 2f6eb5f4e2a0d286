"""Intervals by resampling patients: images of one patient stay together, as they are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.evaluation.estimate import CONFIDENCE, Estimate, Undefined

_LEAST_DEFINED = 0.9
"""Share of resamples in which a figure has to exist for its interval to mean anything."""

_FEWEST_PATIENTS = 3

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class BootstrapOptions:
    """How often patients are drawn again, with replacement, and from which seed."""

    samples: int = 2000
    seed: int = 0


def patient_resamples(subjects: Sequence[str], options: BootstrapOptions) -> Iterator[Indices]:
    """The rows of each resample: as many patients as there are, drawn with replacement, each with all its rows.

    `subjects` names each row's patient. The same seed gives the same resamples whatever the order of the calls.
    """
    names, patient_of_row = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    rows = [np.flatnonzero(patient_of_row == patient) for patient in range(len(names))]
    generator = np.random.default_rng(options.seed)
    for _ in range(options.samples):
        drawn = generator.integers(len(rows), size=len(rows))
        yield np.concatenate([rows[patient] for patient in drawn])


def bootstrapped(
    statistic: Callable[[Indices], float], subjects: Sequence[str], *, unit: str, options: BootstrapOptions
) -> Estimate:
    """A figure over all rows with its percentile interval over resampled patients.

    `statistic` takes row indices and raises Undefined where they cannot give the figure. With fewer than three
    patients, or where more than a tenth of the resamples have no figure, the interval is None and the reason is told.
    """
    try:
        value = statistic(np.arange(len(subjects)))
    except Undefined as reason:
        return Estimate.undefined(str(reason), unit)
    n_patients = len(set(subjects))
    if n_patients < _FEWEST_PATIENTS:
        return Estimate(value, unit=unit, reason=f"no interval: {n_patients} patients, fewer than {_FEWEST_PATIENTS}")
    values = [x for rows in patient_resamples(subjects, options) if (x := _or_none(statistic, rows)) is not None]
    if len(values) < _LEAST_DEFINED * options.samples:
        return Estimate(value, unit=unit, reason="no interval: not defined in most resamples of the patients")
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high), unit)


def _or_none(statistic: Callable[[Indices], float], rows: Indices) -> float | None:
    try:
        return statistic(rows)
    except Undefined:
        return None
