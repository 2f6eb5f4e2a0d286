"""Agreement of predicted with reference values: correlation, error, bias and its limits, calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped
from hierbmd.evaluation.estimate import Estimate, Undefined

LIMITS_FACTOR = 1.96
"""Limits of agreement: bias -+ 1.96 SD of the differences (Bland and Altman, Lancet 1986)."""

_NEGLIGIBLE_SPREAD = 1e-9
"""Relative spread below which values are one value: rounding must not make a correlation."""

Values = NDArray[np.float64]


def pearson_r(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Pearson's correlation coefficient of two series (n,); Undefined with fewer than three rows or no spread."""
    x, y = _pair(predicted, reference, at_least=3)
    _require_spread(x, "predictions")
    _require_spread(y, "references")
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1.0, 1.0))


def icc_2_1(ratings: ArrayLike) -> float:
    """Intraclass correlation ICC(2,1) of `ratings` (n targets, k raters): two-way random, absolute, single rating.

    (BMS - EMS) / (BMS + (k-1) EMS + k (JMS - EMS) / n), Shrout and Fleiss, Psychol Bull 1979. A constant offset between
    the raters lowers it, unlike a correlation. Undefined with fewer than three targets or no spread at all.
    """
    table = np.asarray(ratings, dtype=np.float64)
    n, k = table.shape
    if n < 3:
        raise Undefined(f"{n} rows, fewer than 3")
    _require_spread(table.ravel(), "ratings")
    grand, rows, columns = table.mean(), table.mean(axis=1), table.mean(axis=0)
    between = k * np.sum((rows - grand) ** 2) / (n - 1)
    judges = n * np.sum((columns - grand) ** 2) / (k - 1)
    residual = table - rows[:, None] - columns[None, :] + grand
    error = np.sum(residual**2) / ((n - 1) * (k - 1))
    return float((between - error) / (between + (k - 1) * error + k * (judges - error) / n))


def rmse(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Root mean square of predicted - reference, in their unit."""
    x, y = _pair(predicted, reference, at_least=1)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def mae(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Mean absolute value of predicted - reference, in their unit."""
    x, y = _pair(predicted, reference, at_least=1)
    return float(np.mean(np.abs(x - y)))


def calibration_line(predicted: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """Slope and intercept of reference = slope * predicted + intercept by least squares; (1, 0) is perfect.

    A slope below 1 says that the predictions spread too far, above 1 that they are drawn to the mean.
    """
    x, y = _pair(predicted, reference, at_least=3)
    _require_spread(x, "predictions")
    slope = float(np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2))
    return slope, float(y.mean() - slope * x.mean())


def standard_error_of_estimate(predicted: ArrayLike, reference: ArrayLike) -> float:
    """SEE: the residual SD of the regression of reference on predicted, sqrt(SS_residual / (n - 2)), in their unit."""
    slope, intercept = calibration_line(predicted, reference)
    x, y = _pair(predicted, reference, at_least=3)
    return float(np.sqrt(np.sum((y - slope * x - intercept) ** 2) / (len(x) - 2)))


def bias(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Mean of predicted - reference, in their unit: above zero where the model reads too high."""
    x, y = _pair(predicted, reference, at_least=1)
    return float(np.mean(x - y))


def limits_of_agreement(predicted: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """Bland-Altman limits (low, high): bias -+ 1.96 SD (n - 1 in the SD) of predicted - reference, in their unit."""
    x, y = _pair(predicted, reference, at_least=3)
    middle, spread = float(np.mean(x - y)), float(np.std(x - y, ddof=1))
    return middle - LIMITS_FACTOR * spread, middle + LIMITS_FACTOR * spread


def _icc_2_1(predicted: Values, reference: Values) -> float:
    """ICC(2,1) of model and reference as the two raters; one that says the same of everybody agrees with nothing."""
    x, y = _pair(predicted, reference, at_least=3)
    _require_spread(x, "predictions")
    _require_spread(y, "references")
    return icc_2_1(np.stack([x, y], axis=1))


_METRICS: dict[str, tuple[str, Callable[[Values, Values], float]]] = {
    "pearson_r": ("", pearson_r),
    "icc_2_1": ("", _icc_2_1),
    "see_g_cm2": ("g/cm2", standard_error_of_estimate),
    "rmse_g_cm2": ("g/cm2", rmse),
    "mae_g_cm2": ("g/cm2", mae),
    "bias_g_cm2": ("g/cm2", bias),
    "limit_low_g_cm2": ("g/cm2", lambda x, y: limits_of_agreement(x, y)[0]),
    "limit_high_g_cm2": ("g/cm2", lambda x, y: limits_of_agreement(x, y)[1]),
    "calibration_slope": ("", lambda x, y: calibration_line(x, y)[0]),
}


def agreement(
    predicted_g_cm2: ArrayLike,
    reference_g_cm2: ArrayLike,
    subjects: Sequence[str],
    *,
    options: BootstrapOptions | None = None,
) -> dict[str, Estimate]:
    """Every agreement figure of predicted with reference BMD (n,), g/cm2, with intervals over resampled patients.

    The figures are over images; `subjects` (n,) says whose image each is, and whole patients are resampled.
    """
    return repeated_agreement([predicted_g_cm2], reference_g_cm2, subjects, options=options)


def repeated_agreement(
    predicted_g_cm2: Sequence[ArrayLike],
    reference_g_cm2: ArrayLike,
    subjects: Sequence[str],
    *,
    options: BootstrapOptions | None = None,
) -> dict[str, Estimate]:
    """As `agreement`, where every image was read several times over by other models, (repeats, n): figures are means.

    A resample of patients takes each with all its repeats.
    """
    pairs = [_pair(values, reference_g_cm2, at_least=0) for values in predicted_g_cm2]
    if len(subjects) != len(pairs[0][1]):
        raise ValueError(f"{len(subjects)} subjects for {len(pairs[0][1])} values")

    def mean_of(metric: Callable[[Values, Values], float]) -> Callable[[NDArray[np.intp]], float]:
        return lambda rows: float(np.mean([metric(x[rows], y[rows]) for x, y in pairs]))

    settings = options or BootstrapOptions()
    return {
        name: bootstrapped(mean_of(metric), subjects, unit=unit, options=settings)
        for name, (unit, metric) in _METRICS.items()
    }


def _pair(predicted: ArrayLike, reference: ArrayLike, *, at_least: int) -> tuple[Values, Values]:
    x, y = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"two series of one length, not {x.shape} and {y.shape}")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("values are finite: leave out what has no prediction, and count it")
    if len(x) < at_least:
        raise Undefined(f"{len(x)} rows, fewer than {at_least}")
    return x, y


def _require_spread(values: Values, what: str) -> None:
    if np.ptp(values) <= _NEGLIGIBLE_SPREAD * max(float(np.max(np.abs(values))), 1e-30):
        raise Undefined(f"not defined: {what} are constant")
