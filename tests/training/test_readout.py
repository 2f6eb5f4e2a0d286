"""What is fitted after the training: the line, and the schedule."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.training.readout import fit_line
from hierbmd.training.stage import Schedule


def test_the_line_is_least_squares() -> None:
    x = np.array([0.5, 0.7, 0.9, 1.2])
    assert fit_line(x, 1.3 * x - 0.2) == pytest.approx((1.3, -0.2))


def test_a_raw_value_that_does_not_vary_keeps_its_mean() -> None:
    slope, intercept = fit_line(np.full(4, 0.6), np.array([0.7, 0.8, 0.9, 0.8]))
    assert slope * 0.6 + intercept == pytest.approx(0.8)


def test_the_schedule_rises_falls_and_ends_at_zero() -> None:
    schedule = Schedule("cosine", warmup=0.1)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert Schedule("constant", warmup=0.0).factor(70, 100) == 1.0
