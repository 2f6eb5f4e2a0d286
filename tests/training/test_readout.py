"""What is fitted after the training: the line, and the conformal interval's promise."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.training.readout import conformal_half_width, fit_line
from hierbmd.training.stage import Schedule


def test_the_line_is_least_squares() -> None:
    x = np.array([0.5, 0.7, 0.9, 1.2])
    assert fit_line(x, 1.3 * x - 0.2) == pytest.approx((1.3, -0.2))


def test_a_raw_value_that_does_not_vary_keeps_its_mean() -> None:
    slope, intercept = fit_line(np.full(4, 0.6), np.array([0.7, 0.8, 0.9, 0.8]))
    assert slope * 0.6 + intercept == pytest.approx(0.8)


def test_the_conformal_rank_of_single_sides() -> None:
    residuals = np.arange(1.0, 20.0)  # 19 patients: rank ceil(20 * 0.9) = 18
    assert conformal_half_width(residuals, [str(i) for i in range(19)]) == (18.0, 0.9)


def test_too_few_patients_give_the_largest_residual_and_say_what_it_holds() -> None:
    half_width, level = conformal_half_width(np.array([0.1, 0.3, 0.2]), ["a", "b", "c"])
    assert half_width == 0.3
    assert level == pytest.approx(0.75)


def test_two_sides_weigh_as_one_patient() -> None:
    residuals = np.repeat(np.arange(1.0, 20.0), 2)
    subjects = [str(i // 2) for i in range(38)]
    assert conformal_half_width(residuals, subjects)[0] == 18.0


def test_the_interval_covers_new_patients_as_promised() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(3000):
        # Two sides of a patient share half of their variance.
        own, side = rng.normal(size=(21, 1)), rng.normal(size=(21, 2))
        residuals = np.abs((own + side) / np.sqrt(2.0))
        half_width, _ = conformal_half_width(residuals[:20].ravel(), np.repeat(np.arange(20), 2).astype(str).tolist())
        covered.append(residuals[20, 0] <= half_width)
    # Never less than promised; whole ranks of 20 patients make it a little more.
    assert 0.89 <= np.mean(covered) <= 0.95


def test_the_schedule_rises_falls_and_ends_at_zero() -> None:
    schedule = Schedule("cosine", warmup=0.1)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert Schedule("constant", warmup=0.0).factor(70, 100) == 1.0
