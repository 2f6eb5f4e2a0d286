"""The patient bootstrap: patients are drawn, not images."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped, patient_resamples
from hierbmd.evaluation.estimate import Estimate, Undefined


def test_a_resample_holds_all_rows_of_each_patient_drawn():
    subjects = ["a", "b", "a", "c", "b", "a"]
    rows_of = {"a": [0, 2, 5], "b": [1, 4], "c": [3]}
    for rows in patient_resamples(subjects, BootstrapOptions(samples=50, seed=1)):
        counts = {name: [int(np.sum(rows == row)) for row in members] for name, members in rows_of.items()}
        assert all(len(set(times)) == 1 for times in counts.values())
        assert sum(times[0] for times in counts.values()) == 3


def test_the_interval_of_a_mean_is_the_closed_form_one():
    values = np.random.default_rng(2).normal(0.0, 1.0, 400)
    subjects = [str(i) for i in range(400)]
    interval = bootstrapped(
        lambda rows: float(values[rows].mean()), subjects, unit="", options=BootstrapOptions(samples=2000)
    )
    half_width = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert interval.high - interval.low == pytest.approx(2 * half_width, rel=0.08)


def test_copies_of_an_image_add_no_certainty():
    values = np.random.default_rng(4).normal(0.0, 1.0, 60)
    options = BootstrapOptions(samples=1000)
    once = bootstrapped(lambda r: float(values[r].mean()), [str(i) for i in range(60)], unit="", options=options)
    four = np.repeat(values, 4)
    clustered = bootstrapped(
        lambda r: float(four[r].mean()), [str(i // 4) for i in range(240)], unit="", options=options
    )
    naive = bootstrapped(lambda r: float(four[r].mean()), [str(i) for i in range(240)], unit="", options=options)
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.1)
    assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_a_figure_seldom_defined_has_no_interval():
    flags = np.array([True] + [False] * 19)

    def share(rows):
        if not flags[rows].any():
            raise Undefined("nobody")
        return float(flags[rows].mean())

    figure = bootstrapped(share, [str(i) for i in range(20)], unit="", options=BootstrapOptions(samples=200))
    assert figure.value == pytest.approx(0.05)
    assert figure.low is None
    assert "most resamples" in figure.reason


def test_an_estimate_never_holds_nan_and_never_goes_without_a_reason():
    with pytest.raises(ValueError, match="finite"):
        Estimate(float("nan"), 0.0, 1.0)
    with pytest.raises(ValueError, match="says why"):
        Estimate(0.5)
