"""Nested samples of patients for learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hierbmd.data.splits import quantile_strata
from hierbmd.errors import BadConfig


def nested_samples(values: Mapping[str, float], sizes: Sequence[int], *, seed: int) -> dict[int, tuple[str, ...]]:
    """For each size that many of the subjects, the smaller sample inside the larger, alike in their values.

    `values` gives each subject a number (its BMD); samples are drawn in turn from its quartiles. The answer depends on
    the values and the seed only. BadConfig for a size that is not there.
    """
    largest = max(sizes, default=0)
    if min(sizes, default=1) < 1 or largest > len(values):
        raise BadConfig("no sample of this size", where=f"sizes {list(sizes)}", mend=f"1 to {len(values)} patients")
    strata = quantile_strata(values) if len(values) > 1 else dict.fromkeys(values, 0)
    names = sorted(values)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    of_bin: dict[int, list[str]] = {}
    for name in shuffled:
        of_bin.setdefault(strata[name], []).append(name)
    # The k-th of each bin before the (k+1)-th of any, the bins of a round in a shuffled order.
    place = {name: rank for members in of_bin.values() for rank, name in enumerate(members)}
    order = sorted(shuffled, key=lambda name: place[name])
    return {size: tuple(order[:size]) for size in sizes}
