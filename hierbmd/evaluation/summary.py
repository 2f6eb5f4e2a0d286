"""Every figure of an evaluation, from the readings and the per-image rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import DensityClass, Reference
from hierbmd.errors import BadManifest
from hierbmd.evaluation.agreement import agreement
from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.estimate import Estimate, Undefined
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.precision import precision
from hierbmd.evaluation.screening import Screening, screening, youden_threshold

CONDITIONS = {
    "osteoporosis": (DensityClass.OSTEOPOROSIS,),
    "low_bone_mass_or_osteoporosis": (DensityClass.LOW_BONE_MASS, DensityClass.OSTEOPOROSIS),
}
"""What is screened for: the classes, by the reference BMD's T-score, of the patients who have it."""

NO_REFERENCE = "no T-scores: no young-adult reference of this region"

_IMAGE_UNITS = {"density_mae_g_cm2": "g/cm2", "density_psnr_db": "dB", "density_ssim": "", "region_bias_g_cm2": "g/cm2"}

Row = dict[str, Any]


def summary(
    test: Readings,
    training: Readings,
    rows: Sequence[Row],
    options: EvaluationOptions,
    *,
    reference: Reference | None,
) -> dict[str, Any]:
    """All figures for metrics.json: the headline ones flat, with `_low` and `_high`, then every one by group.

    `rows` are the images of `test` in order. The mean predictor and the screening thresholds come from `training`.
    Without a reference nobody has a T-score, and screening is undefined; patients known to be younger than 50 are not
    screened.
    """
    drawn = BootstrapOptions(options.bootstrap_samples, options.seed)
    mean_g_cm2 = patient_mean_g_cm2(training)
    constant = np.full(len(test.subjects), mean_g_cm2)
    model = agreement(test.predicted_g_cm2, test.reference_g_cm2, test.subjects, options=drawn)
    baseline = agreement(constant, test.reference_g_cm2, test.subjects, options=drawn)
    return {
        **_flat(model, "", ("pearson_r", "icc_2_1", "rmse_g_cm2", "mae_g_cm2")),
        **_flat(baseline, "mean_predictor_", ("rmse_g_cm2", "mae_g_cm2")),
        "mean_predictor_g_cm2": mean_g_cm2,
        "n_subjects": len(set(test.subjects)),
        "n_images": len(test.subjects),
        "n_train_subjects": len(set(training.subjects)),
        "n_train_images": len(training.subjects),
        "agreement": {"model": _json(model), "mean_predictor": _json(baseline)},
        "interval_coverage": _coverage(rows, test.subjects, drawn).as_json(),
        "precision": precision(test.predicted_g_cm2, test.hips).as_json(),
        "screening": {name: _screening(name, test, training, reference) for name in CONDITIONS},
        "density_image": {
            name: _mean_of(name, unit, rows, test.subjects, drawn).as_json() for name, unit in _IMAGE_UNITS.items()
        },
    }


def patient_mean_g_cm2(training: Readings) -> float:
    """The mean predictor's one answer: the mean over training patients of their mean reference BMD, g/cm2."""
    if not training.subjects:
        raise BadManifest("no training patients in the data set", mend="the mean predictor needs a train split")
    subjects = np.asarray(training.subjects)
    return float(np.mean([training.reference_g_cm2[subjects == name].mean() for name in np.unique(subjects)]))


def _flat(figures: dict[str, Estimate], prefix: str, names: Sequence[str]) -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for name in names:
        figure = figures[name]
        ends = {"": figure.value, "_low": figure.low, "_high": figure.high}
        flat |= {f"{prefix}{name}{end}": number for end, number in ends.items()}
    return flat


def _json(figures: dict[str, Estimate]) -> dict[str, Any]:
    return {name: figure.as_json() for name, figure in figures.items()}


def _coverage(rows: Sequence[Row], subjects: Sequence[str], drawn: BootstrapOptions) -> Estimate:
    """The share of reference values inside the model's own interval."""
    if any(row["interval_low_g_cm2"] is None for row in rows):
        return Estimate.undefined("the model gives no intervals")
    inside = np.array(
        [row["interval_low_g_cm2"] <= row["bmd_reference_g_cm2"] <= row["interval_high_g_cm2"] for row in rows],
        dtype=np.float64,
    )
    return bootstrapped(lambda picked: float(inside[picked].mean()), subjects, unit="", options=drawn)


def _screening(name: str, test: Readings, training: Readings, reference: Reference | None) -> dict[str, Any]:
    learnt, truth = training.of_t_score_age().by_patient()
    predicted, true = test.of_t_score_age().by_patient()
    if reference is None:
        return Screening.undefined(NO_REFERENCE, n_patients=len(true)).as_json()
    try:
        threshold, missing = youden_threshold(learnt, has_condition(name, truth, reference)), ""
    except Undefined as reason:
        threshold, missing = None, str(reason)
    found = screening(predicted, has_condition(name, true, reference), threshold_g_cm2=threshold, no_threshold=missing)
    return found.as_json()


def has_condition(name: str, bmd_g_cm2: NDArray[np.float64], reference: Reference) -> NDArray[np.bool_]:
    """Who (n,) has a condition of CONDITIONS by the reference BMD, g/cm2, and the young-adult reference."""
    return np.array([DensityClass.of(reference.t_score(value)) in CONDITIONS[name] for value in bmd_g_cm2], dtype=bool)


def _mean_of(name: str, unit: str, rows: Sequence[Row], subjects: Sequence[str], drawn: BootstrapOptions) -> Estimate:
    """The mean of a per-image figure over the images that have it, with its interval over patients."""
    kept = [(row[name], subject) for row, subject in zip(rows, subjects, strict=True) if row[name] is not None]
    if not kept:
        return Estimate.undefined("not defined for any image", unit)
    values = np.array([value for value, _ in kept])
    return bootstrapped(lambda picked: float(values[picked].mean()), [s for _, s in kept], unit=unit, options=drawn)
