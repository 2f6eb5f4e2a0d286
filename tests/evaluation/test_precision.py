"""Precision against closed forms and a simulated study of known error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hierbmd.evaluation.precision import precision


def test_pairs_follow_the_textbook_formula():
    # For duplicates SD_i = |d_i| / sqrt(2), so RMS-SD = sqrt(sum d^2 / 2n) (ISCD precision calculator).
    first, second = np.array([0.90, 0.80, 1.00, 0.70]), np.array([0.92, 0.79, 1.03, 0.70])
    figures = precision(np.concatenate([first, second]), [str(i) for i in range(4)] * 2)
    rms_sd = np.sqrt(np.sum((first - second) ** 2) / (2 * 4))
    assert figures.rms_sd.value == pytest.approx(rms_sd)
    assert figures.lsc.value == pytest.approx(2.77 * rms_sd)
    cv = np.sqrt(np.mean((first - second) ** 2 / 2 / ((first + second) / 2) ** 2)) * 100
    assert figures.rms_cv.value == pytest.approx(cv)
    assert (figures.degrees_of_freedom, figures.groups) == (4, 4)
    assert not figures.as_json()["iscd_degrees_of_freedom_met"]


def test_the_published_rms_cv_gives_the_lsc_that_goes_with_it():
    # METHOD: RMS-CV of 3.27-3.79 % means an LSC of about 9-10.5 %.
    values = np.array([1.0 - 0.0327 / np.sqrt(2), 1.0 + 0.0327 / np.sqrt(2)])
    figures = precision(values, ["a", "a"])
    assert figures.rms_cv.value == pytest.approx(3.27)
    assert figures.lsc_percent.value == pytest.approx(9.06, abs=0.01)


def test_the_chi_square_interval_of_thirty_degrees_of_freedom():
    rng = np.random.default_rng(0)
    values = 0.9 + rng.normal(0, 0.01, 60)
    figures = precision(values, [str(i // 2) for i in range(60)])
    assert figures.degrees_of_freedom == 30
    assert figures.as_json()["iscd_degrees_of_freedom_met"]
    # The upper one-sided 95 % limit at 30 df is 34 % above (ISCD); the two-sided 95 % one 34.9 / -20.1 %.
    assert figures.rms_sd.high / figures.rms_sd.value == pytest.approx(np.sqrt(30 / stats.chi2.ppf(0.025, 30)))
    assert figures.rms_sd.low / figures.rms_sd.value == pytest.approx(0.799, abs=0.001)


def test_the_interval_covers_the_true_error_as_often_as_it_says():
    rng = np.random.default_rng(1)
    names = [str(i // 3) for i in range(45)]
    covered = 0
    for _ in range(400):
        figures = precision(0.9 + rng.normal(0, 0.02, 45), names)
        covered += figures.rms_sd.low <= 0.02 <= figures.rms_sd.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_groups_of_unequal_size_weigh_by_their_freedom():
    figures = precision([0.8, 0.9, 1.0, 0.7, 0.7, 0.5], ["a", "a", "a", "b", "b", "alone"])
    assert figures.degrees_of_freedom == 3
    assert figures.groups == 2
    assert figures.rms_sd.value == pytest.approx(np.sqrt(0.02 / 3))


def test_no_repeats_is_undefined():
    figures = precision([0.8, 0.9], ["a", "b"])
    assert figures.rms_sd.value is None
    assert figures.lsc.reason == "nothing was measured more than once"
    assert figures.degrees_of_freedom == 0
