"""Nested samples: one inside the other, alike in their values, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.subsets import nested_samples
from hierbmd.errors import BadConfig

VALUES = {f"p{n:03d}": float(x) for n, x in enumerate(np.random.default_rng(0).normal(0.8, 0.15, 100))}


def test_smaller_samples_are_inside_larger_ones():
    samples = nested_samples(VALUES, (50, 10, 25), seed=0)
    assert {size: len(set(names)) for size, names in samples.items()} == {50: 50, 10: 10, 25: 25}
    assert set(samples[10]) < set(samples[25]) < set(samples[50])
    assert samples == nested_samples(dict(reversed(VALUES.items())), (50, 10, 25), seed=0)
    assert samples != nested_samples(VALUES, (50, 10, 25), seed=1)


def test_each_quartile_gives_as_many():
    edges = np.quantile(list(VALUES.values()), [0.25, 0.5, 0.75])
    for seed in range(5):
        chosen = nested_samples(VALUES, (40,), seed=seed)[40]
        counts = np.bincount(np.searchsorted(edges, [VALUES[name] for name in chosen]), minlength=4)
        assert counts.tolist() == [10, 10, 10, 10]


def test_a_size_that_is_not_there_is_refused():
    with pytest.raises(BadConfig, match="1 to 100"):
        nested_samples(VALUES, (101,), seed=0)
    with pytest.raises(BadConfig, match="no sample"):
        nested_samples(VALUES, (0,), seed=0)
