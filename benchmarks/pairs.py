"""Timing in pairs: ours, theirs, ours, theirs ... so that whatever else the machine does weighs on both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

_OURS_A_SIDE = 3
"""Calls of ours before and after each of theirs, which take many times as long."""


def pair(
    ours: Callable[[], float], theirs: Callable[[], float], *, budget_s: float, least: int = 3, most: int = 15
) -> dict[str, Any]:
    """Medians in seconds of two calls in turn, and of theirs / ours: median, lowest and highest of the pairs.

    Both are called once before, unless theirs is to be called only once (`most`); the pairs fill `budget_s`, `least`
    of them at least. Each ratio is theirs to the median of ours right before and right after it.
    """
    ours()
    first = ours() if most == 1 else theirs()
    repeats = most if most == 1 else max(least, min(most, int(budget_s / max(first, 1e-6))))
    mine, yours, ratios = [], [], []
    for _ in range(repeats):
        beside = [ours() for _ in range(_OURS_A_SIDE)]
        seconds = theirs()
        beside += [ours() for _ in range(_OURS_A_SIDE)]
        mine.append(statistics.median(beside))
        yours.append(seconds)
        ratios.append(seconds / mine[-1])
    return {
        "ours_s": statistics.median(mine),
        "theirs_s": statistics.median(yours),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "repeats": repeats,
    }


def median_of(call: Callable[[], float], *, budget_s: float, least: int = 5, most: int = 31) -> float:
    """The median seconds of a call that has been made once before."""
    first = call()
    return statistics.median(call() for _ in range(max(least, min(most, int(budget_s / max(first, 1e-6))))))
