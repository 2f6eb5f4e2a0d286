"""Screening: DeLong against its definition and a bootstrap, thresholds and proportions by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hierbmd.evaluation.estimate import Undefined
from hierbmd.evaluation.screening import auc_delong, screening, sensitivity_threshold, youden_threshold


def delong_naive(score, positive):
    """AUC and its variance straight from the paper: every positive against every negative."""
    high, low = score[positive], score[~positive]
    wins = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in low] for x in high])
    v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
    return wins.mean(), v10.var(ddof=1) / len(high) + v01.var(ddof=1) / len(low)


@pytest.fixture
def scores():
    rng = np.random.default_rng(7)
    positive = rng.random(80) < 0.35
    return np.round(rng.normal(0, 1, 80) + 1.2 * positive, 1), positive  # rounding makes ties


def test_delong_follows_its_definition(scores):
    score, positive = scores
    area, variance = delong_naive(score, positive)
    figure = auc_delong(score, positive)
    assert figure.value == pytest.approx(area)
    assert figure.value == pytest.approx(roc_auc_score(positive, score))
    logit = np.log(area / (1 - area))
    width = 1.959964 * np.sqrt(variance) / (area * (1 - area))
    assert figure.low == pytest.approx(1 / (1 + np.exp(-(logit - width))))
    assert figure.high == pytest.approx(1 / (1 + np.exp(-(logit + width))))


def test_delong_agrees_with_a_bootstrap(scores):
    score, positive = scores
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(600):
        rows = rng.integers(len(score), size=len(score))
        if 0 < positive[rows].sum() < len(rows):
            areas.append(roc_auc_score(positive[rows], score[rows]))
    figure = auc_delong(score, positive)
    low, high = np.quantile(areas, [0.025, 0.975])
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=0.03)


def test_one_class_or_complete_separation_say_so():
    assert auc_delong([1.0, 2.0], [True, True]).reason == "one class only: 2 positive, 0 negative"
    apart = auc_delong([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    assert apart.value == 1.0
    assert apart.low is None
    assert "part completely" in apart.reason


def test_the_threshold_parts_the_training_patients_halfway():
    assert youden_threshold([0.5, 0.6, 0.8, 0.9], [True, True, False, False]) == pytest.approx(0.7)
    # One osteoporotic patient reads high: catching her costs two false alarms, so the cut stays below.
    values = [0.5, 0.6, 0.8, 0.85, 0.9, 1.0]
    assert youden_threshold(values, [True, True, False, False, True, False]) == pytest.approx(0.7)
    with pytest.raises(Undefined, match="one class only"):
        youden_threshold([0.5, 0.6], [False, False])


def test_proportions_by_hand_and_low_bmd_is_positive():
    predicted = np.array([0.5, 0.6, 0.7, 0.9, 0.65, 0.8, 0.9, 1.0, 1.1, 1.2])
    positive = np.array([True] * 4 + [False] * 6)
    figures = screening(predicted, positive, threshold_g_cm2=0.7)
    assert figures.sensitivity.value == pytest.approx(3 / 4)
    assert figures.specificity.value == pytest.approx(5 / 6)
    assert figures.ppv.value == pytest.approx(3 / 4)
    assert figures.npv.value == pytest.approx(5 / 6)
    assert figures.auc.value == pytest.approx(roc_auc_score(positive, -predicted))
    # Wilson, 3 of 4: (p + z2/2n -+ z sqrt(pq/n + z2/4n2)) / (1 + z2/n).
    z2 = 1.959964**2
    middle, width = 0.75 + z2 / 8, 1.959964 * np.sqrt(0.75 * 0.25 / 4 + z2 / 64)
    assert figures.sensitivity.low == pytest.approx((middle - width) / (1 + z2 / 4))
    assert figures.sensitivity.high == pytest.approx((middle + width) / (1 + z2 / 4))


def test_shares_of_nobody_are_undefined():
    figures = screening([0.9, 1.0], [False, False], threshold_g_cm2=0.7)
    assert figures.sensitivity.reason == "no patient has the condition"
    assert figures.ppv.reason == "no patient is called positive"
    assert figures.specificity.value == 1.0
    without = screening([0.9, 0.5], [False, True], threshold_g_cm2=None, no_threshold="one class in training")
    assert without.sensitivity.reason == "one class in training"
    assert without.auc.value == 1.0


def test_the_threshold_for_a_sensitivity_is_the_lowest_that_reaches_it():
    predicted = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.65, 0.95])
    positive = np.array([True, True, True, True, False, False, False])
    assert [sensitivity_threshold(predicted, positive, s) for s in (0.25, 0.26, 0.75, 0.9)] == [0.5, 0.6, 0.7, 0.8]
    found = screening(predicted, positive, threshold_g_cm2=0.7)
    assert (found.sensitivity.value, found.called.value) == pytest.approx((0.75, 4 / 7))
    with pytest.raises(Undefined, match="no training patient has the condition"):
        sensitivity_threshold(predicted, ~positive & positive, 0.9)
