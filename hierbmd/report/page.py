"""The page of an evaluation: the sections of its report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.site import site_of
from hierbmd.report import pictures
from hierbmd.report.frame import provenance, write_page
from hierbmd.report.patients import patients_section, t_scores_against
from hierbmd.report.results import Results, read_refusals, read_results
from hierbmd.report.sections import AGREEMENT_FIGURES, IMAGE_FIGURES, curve, robustness, systems
from hierbmd.report.words import card, estimate, figure, interval, number, table

REPORT_FILE = "report.html"

_PRECISION = {
    "rms_sd_g_cm2": "RMS-SD",
    "rms_cv_percent": "RMS-CV",
    "lsc_g_cm2": "least significant change (2.77 RMS-SD)",
    "lsc_percent": "least significant change (2.77 RMS-CV)",
}
_SCREENING = {"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


def write_report(results: str | Path, dataset: str | Path, *, title: str = "Evaluation on patients never seen") -> Path:
    """Write `report.html` into a folder that an evaluation left; returns the file.

    One page with everything in it: no script, no other file, no network. Errors as `read_results`.
    """
    read = read_results(results, dataset)
    path = Path(results) / REPORT_FILE
    write_page(path, title=title, lead=_lead(read.metrics), metrics=read.metrics, sections=_sections(read))
    return path


def _sections(read: Results) -> dict[str, str]:
    metrics = read.metrics
    return {
        "In short": _headline(metrics),
        "Predicted against reference": _plots(read),
        "Some of the patients": patients_section(read),
        "Agreement": _agreement(metrics),
        "Precision and screening": _precision(metrics) + _screening(metrics),
        "Density images": _images(metrics),
        **_further(metrics),
        "Data and refusals": _cohort(read),
        "How this came about": provenance(metrics),
    }


def _lead(metrics: Mapping[str, Any]) -> str:
    return (
        f"Areal bone mineral density of the {metrics['region'].replace('_', ' ')} read from plain radiographs: "
        f"{metrics['n_images']} images of {metrics['n_subjects']} patients of the {metrics['split']} split; "
        f"{metrics['n_train_subjects']} other patients were learnt from."
    )


def _headline(metrics: Mapping[str, Any]) -> str:
    model, baseline = (metrics["agreement"][name] for name in ("model", "mean_predictor"))
    cards = [
        _card("Pearson r", model["pearson_r"], "predicted with reference"),
        _card("RMSE", model["rmse_g_cm2"], "of the model"),
        _card("RMSE of the mean", baseline["rmse_g_cm2"], f"always {number(metrics['mean_predictor_g_cm2'], 'g/cm2')}"),
        _last_card(metrics),
    ]
    return f'<div class="cards">{"".join(cards)}</div><p class="note">In brackets: 95 % intervals.</p>'


def _last_card(metrics: Mapping[str, Any]) -> str:
    """The least significant change where hips were seen more than once, else how the model's intervals do."""
    precision = metrics["precision"]
    if precision["degrees_of_freedom"]:
        detail = f"{precision['degrees_of_freedom']} degrees of freedom"
        return _card("Least significant change", precision["lsc_percent"], detail)
    return _card("Reference inside the interval", metrics["interval_coverage"], "share of the images")


def _card(what: str, found: Mapping[str, Any], detail: str) -> str:
    if found["value"] is None:
        return card(what, "-", escape(found["reason"]))
    spread = interval(found) if found["low"] is not None else escape(found["reason"])
    return card(what, number(found["value"], found["unit"]), f"{spread}<br>{detail}")


def _plots(read: Results) -> str:
    reference = np.array([float(row["bmd_reference_g_cm2"]) for row in read.rows])
    predicted = np.array([float(row["bmd_predicted_g_cm2"]) for row in read.rows])
    model = read.metrics["agreement"]["model"]
    lines = {"bias": "bias_g_cm2", "lower limit": "limit_low_g_cm2", "upper limit": "limit_high_g_cm2"}
    levels = {name: model[key]["value"] for name, key in lines.items()}
    points = f"{len(read.rows)} points, one an image"
    return (
        '<div class="side-by-side">'
        + figure(
            pictures.scatter(reference, predicted, mean_g_cm2=read.metrics["mean_predictor_g_cm2"]),
            alt=f"Scatter plot of predicted against reference BMD with the identity line, {points}; "
            f"Pearson r {number(model['pearson_r']['value'])}.",
            caption="Each point is an image; the solid line is identity, the dashed one the mean predictor.",
        )
        + figure(
            pictures.bland_altman(reference, predicted, lines_g_cm2=levels),
            alt=f"Bland-Altman plot, {points}: "
            + ", ".join(f"{name} {number(level, 'g/cm2')}" for name, level in levels.items())
            + ".",
            caption="Bland-Altman: the solid line is the bias, the dashed ones bias \N{PLUS-MINUS SIGN} 1.96 SD.",
        )
        + "</div>"
    )


def _agreement(metrics: Mapping[str, Any]) -> str:
    model, baseline = (metrics["agreement"][name] for name in ("model", "mean_predictor"))
    rows = [
        [escape(words), estimate(model[name]), estimate(baseline[name])] for name, words in AGREEMENT_FIGURES.items()
    ]
    rows.append(["reference inside the model's interval", estimate(metrics["interval_coverage"]), "-"])
    caption = (
        f"95 % intervals from {metrics['bootstrap_samples']} bootstrap samples of patients (seed {metrics['seed']}). "
        f"Reference BMD: {', '.join(metrics['bmd_sources'])}."
    )
    return table(["figure", "model", "mean predictor"], rows, caption=caption)


def _precision(metrics: Mapping[str, Any]) -> str:
    found = metrics["precision"]
    met = "meets" if found["iscd_degrees_of_freedom_met"] else "is below"
    rows = [[escape(words), estimate(found[name])] for name, words in _PRECISION.items()]
    caption = (
        f"Repeats: {found['groups']} {site_of(metrics['region']).counted} seen more than once, "
        f"{found['degrees_of_freedom']} degrees of freedom, which {met} the 30 that ISCD asks for. Chi-square "
        "intervals."
    )
    return table(["precision of repeated images", "value"], rows, caption=caption)


def _screening(metrics: Mapping[str, Any]) -> str:
    found = metrics["screening"]
    rows = [[escape(words), *(estimate(one[name]) for one in found.values())] for name, words in _SCREENING.items()]
    rows.append(
        ["threshold on the predicted BMD", *(number(one["threshold_g_cm2"], "g/cm2") for one in found.values())]
    )
    rows.append(["patients with it", *(f"{one['n_positive']} of {one['n_patients']}" for one in found.values())])
    caption = (
        f"One row a patient of 50 or more or of unknown age{site_of(metrics['region']).of_a_patient}; who has the "
        f"condition is said by the reference BMD's T-score. {t_scores_against(metrics)} Thresholds were chosen on "
        "training patients (Youden). AUC: DeLong; proportions: Wilson."
    )
    return table(["screening", *(name.replace("_", " ") for name in found)], rows, caption=caption)


def _images(metrics: Mapping[str, Any]) -> str:
    rows = [[escape(words), estimate(metrics["density_image"][name])] for name, words in IMAGE_FIGURES.items()]
    caption = (
        f"Predicted against true areal-density image of the region, mean over the images; range for PSNR and SSIM "
        f"{number(metrics['density_peak_g_cm2'], 'g/cm2')}."
    )
    return table(["density image", "value"], rows, caption=caption)


def _further(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What was asked for beyond the model alone: other models, a learning curve, robustness."""
    parts = {}
    if "comparison" in metrics:
        parts["Models compared"] = systems(
            metrics["comparison"], bootstrap_samples=metrics["bootstrap_samples"], region=metrics["region"]
        )
    if "learning_curve" in metrics:
        parts["Learning curve"] = curve(metrics["learning_curve"])
    if "robustness" in metrics:
        parts["Robustness"] = robustness(metrics["robustness"], metrics["robustness_lsc_g_cm2"])
    return parts


def _cohort(read: Results) -> str:
    records = read.dataset.records
    rows = []
    for split in ("train", "val", "test"):
        ours = [record for record in records if record.split == split]
        rows.append([split, str(len({r.subject for r in ours})), str(len(ours)), str(sum(r.metal for r in ours))])
    counts = table(["split", "patients", "images", "with metal"], rows, caption="What the data set holds.")
    refusals = read_refusals(read.dataset)
    if not refusals:
        return counts + '<p class="note">No refusals: every row of the manifest became a pair.</p>'
    cells = [
        [str(n), *(escape(row.get(name) or "") for name in ("side", "stage", "error_class", "reason"))]
        for n, row in enumerate(refusals, start=1)
    ]
    return counts + table(["refusal", "side", "step", "kind", "reason"], cells, caption="Refused, and why.")
