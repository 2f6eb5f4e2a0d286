"""Screening: how well a predicted BMD finds the patients whose reference BMD is low."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import roc_curve

from hierbmd.evaluation.estimate import CONFIDENCE, Estimate, Undefined

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Screening:
    """Screening figures at one threshold: a patient with a predicted BMD at or below `threshold_g_cm2` is positive.

    `called` is the share of all patients that are.
    """

    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    called: Estimate
    threshold_g_cm2: float | None
    n_positive: int
    n_patients: int

    @classmethod
    def undefined(cls, reason: str, *, n_patients: int) -> Screening:
        """Screening for what nobody can be said to have or not to have, and why."""
        nothing = Estimate.undefined(reason)
        return cls(*(nothing,) * 6, threshold_g_cm2=None, n_positive=0, n_patients=n_patients)

    def as_json(self) -> dict[str, Any]:
        """The figures for a result file."""
        return {
            "auc": self.auc.as_json(),
            "sensitivity": self.sensitivity.as_json(),
            "specificity": self.specificity.as_json(),
            "ppv": self.ppv.as_json(),
            "npv": self.npv.as_json(),
            "called": self.called.as_json(),
            "threshold_g_cm2": self.threshold_g_cm2,
            "n_positive": self.n_positive,
            "n_patients": self.n_patients,
        }


def auc_delong(score: ArrayLike, positive: ArrayLike) -> Estimate:
    """Area under the ROC curve of `score` (n,), higher in the positive (n,) bool, with DeLong's interval.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988, by mid-ranks (Sun and Xu, IEEE SPL 2014); the interval is taken
    on the logit scale so that it stays within 0 and 1. Rows are independent: one per patient. Undefined with one class;
    without an interval where the classes part completely, as the variance is then zero.
    """
    values, truth = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(np.sum(truth)), int(np.sum(~truth))
    if min(n_positive, n_negative) == 0:
        return Estimate.undefined(f"one class only: {n_positive} positive, {n_negative} negative")
    above, below = _placements(values, truth)
    area = float(np.mean(above))
    if np.ptp(values) == 0:
        return Estimate(area, reason="no interval: one score for everybody")
    if min(n_positive, n_negative) < 2:
        return Estimate(area, reason="no interval: a class of one patient")
    variance = float(np.var(above, ddof=1) / n_positive + np.var(below, ddof=1) / n_negative)
    if variance <= 0 or not 0 < area < 1:
        return Estimate(area, reason="no interval: the classes part completely, DeLong's variance is zero")
    width = stats.norm.ppf(0.5 + CONFIDENCE / 2.0) * np.sqrt(variance) / (area * (1.0 - area))
    middle = np.log(area / (1.0 - area))
    low, high = 1.0 / (1.0 + np.exp(-(middle + np.array([-width, width]))))
    return Estimate(area, float(low), float(high))


def auc_difference(first: ArrayLike, second: ArrayLike, positive: ArrayLike) -> tuple[Estimate, float | None]:
    """AUC of `first` less that of `second`, scores of the same patients (n,), with DeLong's paired interval and p.

    The variance of the difference takes the covariance of the two areas into account (DeLong, DeLong and
    Clarke-Pearson, Biometrics 1988, equations 5 to 7); p is of the two-sided normal test. Undefined with one class.
    """
    truth = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(np.sum(truth)), int(np.sum(~truth))
    if min(n_positive, n_negative) < 2:
        return Estimate.undefined(f"{n_positive} positive, {n_negative} negative: at least 2 of each"), None
    placed = [_placements(np.asarray(score, dtype=np.float64), truth) for score in (first, second)]
    above, below = (placed[0][i] - placed[1][i] for i in (0, 1))
    difference = float(np.mean(above))
    variance = float(np.var(above, ddof=1) / n_positive + np.var(below, ddof=1) / n_negative)
    if variance <= 0:
        return Estimate(difference, reason="no interval: the two order the patients alike"), None
    width = float(stats.norm.ppf(0.5 + CONFIDENCE / 2.0) * np.sqrt(variance))
    p = float(2.0 * stats.norm.sf(abs(difference) / np.sqrt(variance)))
    return Estimate(difference, difference - width, difference + width), p


def _placements(values: NDArray[np.float64], truth: Flags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each positive the share of negatives below it, and for each negative the share of positives above it."""
    ranks = stats.rankdata(values)
    above = (ranks[truth] - stats.rankdata(values[truth])) / np.sum(~truth)
    below = 1.0 - (ranks[~truth] - stats.rankdata(values[~truth])) / np.sum(truth)
    return above, below


def youden_threshold(predicted_g_cm2: ArrayLike, positive: ArrayLike) -> float:
    """The predicted BMD at or below which sensitivity + specificity - 1 is largest; on training patients, never others.

    Halfway to the next higher prediction, so that the cut does not hang on one patient. Undefined with one class.
    """
    values, truth = np.asarray(predicted_g_cm2, dtype=np.float64), np.asarray(positive, dtype=bool)
    if truth.all() or not truth.any():
        raise Undefined("no threshold: one class only in the training patients")
    false_rate, true_rate, cuts = roc_curve(truth, -values, drop_intermediate=False)
    best = int(np.argmax(true_rate - false_rate))
    cut = float(np.max(values)) if best == 0 else float(-cuts[best])
    higher = values[values > cut]
    return (cut + float(np.min(higher))) / 2.0 if len(higher) else cut


def sensitivity_threshold(predicted_g_cm2: ArrayLike, positive: ArrayLike, sensitivity: float) -> float:
    """The lowest predicted BMD at or below which at least a share `sensitivity` of the positive patients lies.

    On training patients, never others. Undefined without a positive one.
    """
    values, truth = np.asarray(predicted_g_cm2, dtype=np.float64), np.asarray(positive, dtype=bool)
    if not truth.any():
        raise Undefined("no threshold: no training patient has the condition")
    found = np.sort(values[truth])
    return float(found[int(np.ceil(sensitivity * len(found) - 1e-9)) - 1])


def screening(
    predicted_g_cm2: ArrayLike, positive: ArrayLike, *, threshold_g_cm2: float | None, no_threshold: str = ""
) -> Screening:
    """Screening figures, one row per patient (n,); `positive` says whose reference BMD is low.

    Give the threshold chosen on training patients, or None and the reason why there is none. Proportions have Wilson
    intervals; a proportion of nobody is undefined.
    """
    values, truth = np.asarray(predicted_g_cm2, dtype=np.float64), np.asarray(positive, dtype=bool)
    if threshold_g_cm2 is None:
        shares = [Estimate.undefined(no_threshold)] * 5
    else:
        shares = _proportions(values <= threshold_g_cm2, truth)
    sensitivity, specificity, ppv, npv, called = shares
    return Screening(
        auc_delong(-values, truth),
        sensitivity,
        specificity,
        ppv,
        npv,
        called,
        threshold_g_cm2=threshold_g_cm2,
        n_positive=int(np.sum(truth)),
        n_patients=len(truth),
    )


def _proportions(called: Flags, truth: Flags) -> list[Estimate]:
    return [
        _share(called & truth, truth, "no patient has the condition"),
        _share(~called & ~truth, ~truth, "no patient is without the condition"),
        _share(called & truth, called, "no patient is called positive"),
        _share(~called & ~truth, ~called, "no patient is called negative"),
        _share(called, np.ones_like(called), "no patients"),
    ]


def _share(counted: Flags, among: Flags, nobody: str) -> Estimate:
    count, total = int(np.sum(counted)), int(np.sum(among))
    if total == 0:
        return Estimate.undefined(nobody)
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / total, float(interval.low), float(interval.high))
