"""Systems beside each other on the same images: each one's figures, and paired tests of the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hierbmd.data.density import Reference
from hierbmd.errors import BadManifest
from hierbmd.evaluation.agreement import pearson_r, rmse
from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.estimate import Estimate
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.screening import auc_delong, auc_difference
from hierbmd.evaluation.summary import NO_REFERENCE, has_condition

MEAN_PREDICTOR = "mean_predictor"
CONDITION = "osteoporosis"


def mean_predictor(test: Readings, mean_g_cm2: float) -> Readings:
    """The baseline that says the training patients' mean of everybody."""
    constant = np.full(len(test.subjects), mean_g_cm2)
    return replace(test, predicted_g_cm2=constant)


def system_figures(
    readings: Readings, options: EvaluationOptions, *, reference: Reference | None
) -> dict[str, Estimate]:
    """Pearson r and RMSE over the images with patient-bootstrap intervals; AUC for osteoporosis over patients."""
    drawn = BootstrapOptions(options.bootstrap_samples, options.seed)
    x, y = readings.predicted_g_cm2, readings.reference_g_cm2
    auc = Estimate.undefined(NO_REFERENCE)
    if reference is not None:
        predicted, true = readings.of_t_score_age().by_patient()
        auc = auc_delong(-predicted, has_condition(CONDITION, true, reference))
    return {
        "pearson_r": bootstrapped(lambda at: pearson_r(x[at], y[at]), readings.subjects, unit="", options=drawn),
        "rmse_g_cm2": bootstrapped(lambda at: rmse(x[at], y[at]), readings.subjects, unit="g/cm2", options=drawn),
        f"auc_{CONDITION}": auc,
    }


def flat(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    """Figures as plain keys NAME, NAME_low and NAME_high, and NAME_reason where one of them is missing."""
    row: dict[str, Any] = {}
    for name, figure in figures.items():
        row |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        row |= {f"{name}_reason": figure.reason} if figure.reason else {}
    return row


def paired(
    first: Readings, second: Readings, options: EvaluationOptions, *, reference: Reference | None
) -> dict[str, Any]:
    """Differences, `first` less `second`, on the same images: RMSE and r by bootstrap of patients, AUC by DeLong.

    Both are read on every resample, so that what patients have in common cancels. An interval without zero in it is a
    difference at the 5 % level. BadManifest when the two did not read the same images.
    """
    same = first.hips == second.hips and np.array_equal(first.reference_g_cm2, second.reference_g_cm2)
    if not same:
        raise BadManifest("the two models did not read the same images", mend="evaluate both on one data set")
    drawn, y = BootstrapOptions(options.bootstrap_samples, options.seed), first.reference_g_cm2
    a, b = first.predicted_g_cm2, second.predicted_g_cm2
    auc, p = _auc_difference(first, second, reference)
    subjects = first.subjects
    errors = bootstrapped(lambda at: rmse(a[at], y[at]) - rmse(b[at], y[at]), subjects, unit="g/cm2", options=drawn)
    correlation = bootstrapped(
        lambda at: pearson_r(a[at], y[at]) - pearson_r(b[at], y[at]), subjects, unit="", options=drawn
    )
    return {
        "rmse_g_cm2": errors.as_json(),
        "pearson_r": correlation.as_json(),
        f"auc_{CONDITION}": auc.as_json(),
        f"auc_{CONDITION}_p": p,
    }


def _auc_difference(first: Readings, second: Readings, reference: Reference | None) -> tuple[Estimate, float | None]:
    if reference is None:
        return Estimate.undefined(NO_REFERENCE), None
    low_a, true = first.of_t_score_age().by_patient()
    low_b, _ = second.of_t_score_age().by_patient()
    return auc_difference(-low_a, -low_b, has_condition(CONDITION, true, reference))


def comparison(
    systems: Mapping[str, Readings], options: EvaluationOptions, *, reference: Reference | None
) -> dict[str, Any]:
    """Every system's figures, and each but the first against the first: {"systems": ..., "paired": {NAME: ...}}."""
    names = list(systems)
    return {
        "systems": {
            name: flat(system_figures(readings, options, reference=reference)) for name, readings in systems.items()
        },
        "paired": {name: paired(systems[names[0]], systems[name], options, reference=reference) for name in names[1:]},
        "paired_against": names[0],
    }
