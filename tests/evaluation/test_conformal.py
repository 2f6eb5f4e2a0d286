"""The conformal interval's promise."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.evaluation.conformal import conformal_half_width


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
