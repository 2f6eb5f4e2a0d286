"""Paired tests: DeLong by its definition, intervals that hold what they should, and the mean predictor."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.density import REFERENCES
from hierbmd.errors import BadManifest
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.comparison import comparison, flat, mean_predictor, paired, system_figures
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.screening import auc_delong, auc_difference

WOMEN = REFERENCES["nhanes3-female-total-hip"]
OPTIONS = EvaluationOptions(bootstrap_samples=300)


def readings(truth, error, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple(f"p{n:03d}" for n in range(len(truth)))
    return Readings(truth + rng.normal(0, error, len(truth)), truth, names, tuple(f"{name} left" for name in names))


@pytest.fixture
def truth():
    return np.random.default_rng(3).uniform(0.5, 1.1, 60)


def covariance_naive(scores, positive):
    """DeLong's covariance of two areas, straight from the paper: every positive against every negative."""
    parts = []
    for score in scores:
        wins = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in score[~positive]] for x in score[positive]])
        parts.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    m, n = positive.sum(), (~positive).sum()
    s10 = np.cov([parts[0][1], parts[1][1]]) / m
    s01 = np.cov([parts[0][2], parts[1][2]]) / n
    total = s10 + s01
    return parts[0][0] - parts[1][0], total[0, 0] + total[1, 1] - 2 * total[0, 1]


def test_the_paired_difference_follows_delong(truth):
    rng = np.random.default_rng(5)
    positive = truth < 0.7
    first, second = -truth + rng.normal(0, 0.1, 60), -truth + rng.normal(0, 0.3, 60)
    difference, variance = covariance_naive((first, second), positive)
    found, p = auc_difference(first, second, positive)
    assert found.value == pytest.approx(difference)
    assert found.value == pytest.approx(auc_delong(first, positive).value - auc_delong(second, positive).value)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(variance))
    assert 0 < p < 1


def test_a_small_example_by_hand():
    # Two positives, two negatives. First parts them; second swaps one pair: areas 1 and 3/4.
    # Differences of placements: positives (0, 1/2), negatives (0, 1/2): variance 1/8 / 2 + 1/8 / 2 = 1/8.
    positive = np.array([True, True, False, False])
    found, _ = auc_difference([4.0, 3.0, 2.0, 1.0], [4.0, 2.0, 3.0, 1.0], positive)
    assert found.value == pytest.approx(0.25)
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt(1 / 8))
    same, p = auc_difference([4.0, 3.0, 2.0, 1.0], [8.0, 6.0, 4.0, 2.0], positive)
    assert (same.value, same.low, p) == (0.0, None, None)
    assert auc_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [True, False, False])[0].value is None


def test_the_paired_p_is_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(11)
    found = []
    for _ in range(200):
        truth = rng.normal(0, 1, 60)
        positive = truth > 0.3
        scores = [truth + rng.normal(0, 1, 60) for _ in range(2)]
        found.append(auc_difference(*scores, positive)[1] < 0.05)
    assert 0.01 <= np.mean(found) <= 0.11


def test_the_better_system_is_told_from_the_worse(truth):
    good, bad = readings(truth, 0.02, 1), readings(truth, 0.15, 2)
    found = paired(good, bad, OPTIONS, reference=WOMEN)
    assert found["rmse_g_cm2"]["high"] < 0 < found["pearson_r"]["low"]
    # Pairing takes out what both have in common: a system and itself with a trace more error.
    near = Readings(good.predicted_g_cm2 + 0.001, truth, good.subjects, good.hips)
    close = paired(near, good, OPTIONS, reference=WOMEN)["rmse_g_cm2"]
    own = system_figures(good, OPTIONS, reference=WOMEN)["rmse_g_cm2"]
    assert close["high"] - close["low"] < 0.2 * (own.high - own.low)


def test_intervals_of_the_rmse_difference_hold_zero_as_often_as_they_say():
    rng = np.random.default_rng(21)
    held = []
    for trial in range(60):
        truth = rng.uniform(0.5, 1.1, 50)
        one, two = readings(truth, 0.05, 1000 + trial), readings(truth, 0.05, 2000 + trial)
        found = paired(one, two, EvaluationOptions(bootstrap_samples=200, seed=trial), reference=WOMEN)["rmse_g_cm2"]
        held.append(found["low"] <= 0 <= found["high"])
    assert np.mean(held) >= 0.85


def test_the_mean_predictor_has_no_correlation_and_an_area_of_a_half(truth):
    model = readings(truth, 0.03)
    found = comparison({"model": model, "mean": mean_predictor(model, 0.8)}, OPTIONS, reference=WOMEN)
    mean = found["systems"]["mean"]
    assert (mean["pearson_r"], mean["auc_osteoporosis"]) == (None, 0.5)
    assert "one score for everybody" in mean["auc_osteoporosis_reason"]
    assert mean["rmse_g_cm2"] == pytest.approx(np.sqrt(np.mean((truth - 0.8) ** 2)))
    assert found["paired_against"] == "model"
    assert found["paired"]["mean"]["pearson_r"]["value"] is None
    assert set(flat(system_figures(model, OPTIONS, reference=WOMEN))) >= {
        "rmse_g_cm2",
        "rmse_g_cm2_low",
        "rmse_g_cm2_high",
    }


def test_systems_on_other_images_are_not_compared(truth):
    with pytest.raises(BadManifest, match="same images"):
        paired(readings(truth, 0.1), readings(truth[:-1], 0.1), OPTIONS, reference=WOMEN)


def test_without_a_reference_there_is_no_auc_but_all_the_rest(truth):
    model = readings(truth, 0.03)
    found = comparison({"model": model, "mean": mean_predictor(model, 0.8)}, OPTIONS, reference=None)
    assert found["systems"]["model"]["auc_osteoporosis"] is None
    assert "no young-adult reference" in found["systems"]["model"]["auc_osteoporosis_reason"]
    assert found["paired"]["mean"]["auc_osteoporosis_p"] is None
    assert found["systems"]["model"]["pearson_r"] > 0.9
