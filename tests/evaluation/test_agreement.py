"""Agreement against published tables and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hierbmd.evaluation.agreement import (
    agreement,
    bias,
    calibration_line,
    icc_2_1,
    limits_of_agreement,
    mae,
    pearson_r,
    rmse,
    standard_error_of_estimate,
)
from hierbmd.evaluation.bootstrap import BootstrapOptions
from hierbmd.evaluation.estimate import Undefined

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Four judges on six targets: Shrout and Fleiss, Psychol Bull 1979, table 2; ICC(2,1) = 0.29 there."""

WRIGHT_L_MIN = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT_L_MIN = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak flow by two meters: Bland and Altman, Lancet 1986; mean difference -2.1, SD 38.8, limits -79.7 and 75.5."""


def test_icc_of_the_published_table():
    assert icc_2_1(SHROUT_FLEISS) == pytest.approx(0.29, abs=0.005)


def test_icc_falls_with_an_offset_where_pearson_does_not():
    values = np.linspace(0.5, 1.2, 20)
    assert pearson_r(values + 0.3, values) == pytest.approx(1.0)
    assert icc_2_1(np.stack([values, values], axis=1)) == pytest.approx(1.0)
    assert icc_2_1(np.stack([values + 0.3, values], axis=1)) < 0.6


def test_bland_altman_of_the_published_table():
    assert bias(WRIGHT_L_MIN, MINI_WRIGHT_L_MIN) == pytest.approx(-2.1, abs=0.05)
    low, high = limits_of_agreement(WRIGHT_L_MIN, MINI_WRIGHT_L_MIN)
    # The paper takes 2 SD for the limits: -79.7 and 75.5; here 1.96 SD.
    assert (low + high) / 2 + (low - high) / 2 * 2 / 1.96 == pytest.approx(-79.7, abs=0.1)
    assert (low + high) / 2 + (high - low) / 2 * 2 / 1.96 == pytest.approx(75.5, abs=0.1)


def test_regression_figures_against_scipy():
    rng = np.random.default_rng(3)
    reference = rng.normal(0.9, 0.15, 40)
    predicted = 0.6 * reference + 0.3 + rng.normal(0, 0.04, 40)
    line = stats.linregress(predicted, reference)
    assert calibration_line(predicted, reference) == pytest.approx((line.slope, line.intercept))
    assert pearson_r(predicted, reference) == pytest.approx(line.rvalue)
    # The slope's standard error is SEE / sqrt(Sxx).
    see = line.stderr * np.sqrt(np.sum((predicted - predicted.mean()) ** 2))
    assert standard_error_of_estimate(predicted, reference) == pytest.approx(see)


def test_errors_by_hand():
    assert rmse([1.0, 2.0, 3.0], [1.0, 2.0, 6.0]) == pytest.approx(np.sqrt(3.0))
    assert mae([1.0, 2.0, 3.0], [1.0, 2.0, 6.0]) == pytest.approx(1.0)
    assert bias([1.0, 2.0, 3.0], [1.0, 2.0, 6.0]) == pytest.approx(-1.0)


def test_what_cannot_be_computed_is_null_with_its_reason():
    figures = agreement([0.8, 0.8, 0.8, 0.8], [0.7, 0.8, 0.9, 1.0], ["a", "b", "c", "d"])
    assert figures["pearson_r"].as_json() == {
        "value": None,
        "low": None,
        "high": None,
        "unit": "",
        "reason": "not defined: predictions are constant",
    }
    assert figures["icc_2_1"] == figures["pearson_r"]
    assert figures["calibration_slope"].value is None
    assert figures["rmse_g_cm2"].value is not None
    two = agreement([0.8, 0.9], [0.7, 0.8], ["a", "b"])
    assert two["pearson_r"].reason == "2 rows, fewer than 3"
    assert two["mae_g_cm2"].value == pytest.approx(0.1)
    assert two["mae_g_cm2"].reason == "no interval: 2 patients, fewer than 3"
    nobody = agreement([], [], [])
    assert all(figure.value is None and figure.reason for figure in nobody.values())


def test_constant_values_with_rounding_noise_have_no_correlation():
    # 0.1 + 0.2 and 0.3 differ in the last bit: a spread of rounding is none.
    with pytest.raises(Undefined, match="predictions are constant"):
        pearson_r([0.1 + 0.2, 0.3, 0.3], [0.5, 0.7, 0.9])


def test_values_that_are_not_finite_are_refused_not_averaged():
    with pytest.raises(ValueError, match="finite"):
        agreement([0.8, np.nan, 0.9], [0.7, 0.8, 0.9], ["a", "b", "c"])


def test_the_same_seed_gives_the_same_intervals_and_each_holds_its_value():
    rng = np.random.default_rng(0)
    reference = rng.normal(0.9, 0.15, 30)
    predicted = reference + rng.normal(0, 0.05, 30)
    subjects = [f"s{i // 2}" for i in range(30)]
    options = BootstrapOptions(samples=300, seed=5)
    first = agreement(predicted, reference, subjects, options=options)
    again = agreement(predicted, reference, subjects, options=options)
    other = agreement(predicted, reference, subjects, options=BootstrapOptions(samples=300, seed=6))
    assert first == again
    assert first["rmse_g_cm2"].low != other["rmse_g_cm2"].low
    for figure in first.values():
        assert figure.low <= figure.value <= figure.high
