"""Precision of repeated measurements, as ISCD asks for it: RMS-SD first, RMS-CV beside it, and the LSC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from hierbmd.evaluation.estimate import CONFIDENCE, Estimate
from hierbmd.units import LSC_FACTOR

ISCD_DEGREES_OF_FREEDOM = 30
"""What ISCD asks of a precision study: 15 subjects three times or 30 subjects twice (official positions)."""


@dataclass(frozen=True)
class Precision:
    """Precision error of repeats: RMS-SD and LSC in g/cm2 and in percent, with the degrees of freedom behind them."""

    rms_sd: Estimate
    rms_cv: Estimate
    lsc: Estimate
    lsc_percent: Estimate
    degrees_of_freedom: int
    groups: int

    def as_json(self) -> dict[str, Any]:
        """The figures for a result file."""
        return {
            "rms_sd_g_cm2": self.rms_sd.as_json(),
            "rms_cv_percent": self.rms_cv.as_json(),
            "lsc_g_cm2": self.lsc.as_json(),
            "lsc_percent": self.lsc_percent.as_json(),
            "degrees_of_freedom": self.degrees_of_freedom,
            "groups": self.groups,
            "iscd_degrees_of_freedom_met": self.degrees_of_freedom >= ISCD_DEGREES_OF_FREEDOM,
        }


def precision(values_g_cm2: ArrayLike, groups: Sequence[str]) -> Precision:
    """Precision error from repeats: rows of one group (one hip of one patient) measure the same thing, in g/cm2.

    RMS-SD = sqrt(sum of squared deviations from the group's mean / degrees of freedom), degrees of freedom = rows -
    groups; RMS-CV the same of SD / mean (Glueer et al., Osteoporos Int 1995). Intervals are chi-square. LSC = 2.77 x.
    Groups of a single row count for nothing; with no repeats at all every figure is undefined.
    """
    values = np.asarray(values_g_cm2, dtype=np.float64)
    names = np.asarray(groups, dtype=str)
    repeats = [values[names == name] for name in np.unique(names) if np.sum(names == name) > 1]
    freedom = sum(len(rows) - 1 for rows in repeats)
    if freedom == 0:
        missing = "nothing was measured more than once"
        g_cm2, percent = Estimate.undefined(missing, "g/cm2"), Estimate.undefined(missing, "%")
        return Precision(g_cm2, percent, g_cm2, percent, degrees_of_freedom=0, groups=0)
    sd = _with_chi_square(float(np.sqrt(sum(np.sum((r - r.mean()) ** 2) for r in repeats) / freedom)), freedom, "g/cm2")
    cv = _coefficient_of_variation(repeats, freedom)
    return Precision(sd, cv, sd.scaled(LSC_FACTOR, "g/cm2"), cv.scaled(LSC_FACTOR, "%"), freedom, len(repeats))


def _coefficient_of_variation(repeats: list[np.ndarray], freedom: int) -> Estimate:
    if min(rows.mean() for rows in repeats) <= 0:
        return Estimate.undefined("a mean is zero or below", "%")
    squares = sum(np.sum((rows / rows.mean() - 1.0) ** 2) for rows in repeats)
    return _with_chi_square(100.0 * float(np.sqrt(squares / freedom)), freedom, "%")


def _with_chi_square(error: float, freedom: int, unit: str) -> Estimate:
    """The interval of an SD: error * sqrt(df / chi2 quantile)."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = error * np.sqrt(freedom / stats.chi2.ppf([1.0 - tail, tail], freedom))
    return Estimate(error, float(low), float(high), unit)
