"""Intervals from the errors on patients that a model did not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERVAL_LEVEL = 0.9
"""The coverage asked of the interval."""


def conformal_half_width(
    residuals: NDArray[np.float64], subjects: Sequence[str], level: float = INTERVAL_LEVEL
) -> tuple[float, float]:
    """The split-conformal half-width of absolute residuals and the coverage that it holds.

    The quantile of rank ceil((n + 1) * level) of n patients (Vovk et al. 2005; Lei et al., JASA 2018), each patient's
    sides sharing one patient's weight (Dunn, Wasserman, Ramdas, JASA 2023). Too few patients for `level` give the
    largest residual, which holds n / (n + 1).
    """
    names, inverse, counts = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    n = len(names)
    rank = np.ceil((n + 1) * level)
    if rank > n:
        return float(residuals.max()), n / (n + 1)
    order = np.argsort(residuals)
    cumulative = np.cumsum(1.0 / counts[inverse][order])
    place = int(np.searchsorted(cumulative, rank - 1e-9))
    return float(residuals[order][min(place, len(order) - 1)]), level
