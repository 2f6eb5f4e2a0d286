"""The page of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.evaluation.files import PREDICTIONS_FILE
from hierbmd.io.tables import read_table
from hierbmd.report import pictures
from hierbmd.report.frame import provenance, write_page
from hierbmd.report.sections import AGREEMENT_FIGURES
from hierbmd.report.words import estimate, figure, number, table

REPORT_FILE = "report.html"


def write_cross_validation(folder: Path, metrics: Mapping[str, Any]) -> Path:
    """Write `report.html` beside a cross-validation's predictions.csv; returns the file."""
    path = folder / REPORT_FILE
    lead = (
        f"{metrics['repeats']} times {metrics['folds']} folds of {metrics['n_subjects']} patients "
        f"({metrics['n_images']} images): each is read by models that never learnt from that patient. Reference BMD: "
        f"{', '.join(metrics['bmd_sources'])}."
    )
    sections = {
        "Out of fold": _scatter(folder) + _agreement(metrics),
        "Every fold": _folds(metrics),
        "How this came about": provenance(metrics),
    }
    write_page(path, title="Cross-validation by patient", lead=lead, metrics=metrics, sections=sections)
    return path


def _scatter(folder: Path) -> str:
    rows = [row for row in read_table(folder / PREDICTIONS_FILE) if row["repeat"] == "0"]
    reference, predicted, mean = (
        np.array([float(row[name]) for row in rows])
        for name in ("bmd_reference_g_cm2", "bmd_predicted_g_cm2", "mean_predictor_g_cm2")
    )
    drawn = pictures.scatter(reference, predicted, mean_g_cm2=float(mean.mean()))
    alt = f"Out-of-fold BMD against the reference of {len(rows)} images, with the identity line."
    return figure(drawn, alt=alt, caption="The first repeat; each point is an image. Dashed: the mean predictor.")


def _agreement(metrics: Mapping[str, Any]) -> str:
    model, baseline = (metrics["agreement"][name] for name in ("model", "mean_predictor"))
    rows = [
        [escape(words), estimate(model[name]), estimate(baseline[name])] for name, words in AGREEMENT_FIGURES.items()
    ]
    rows.append(["AUC, osteoporosis", estimate(metrics["auc_osteoporosis"]), "-"])
    rows.append(["RMSE, model less mean predictor", estimate(metrics["rmse_less_mean_predictor_g_cm2"]), "-"])
    apart = metrics["repeat_sd"]["rmse_g_cm2"]
    rows.append(["SD of the RMSE over repeats", number(apart, "g/cm2"), "-"])
    caption = (
        f"Means over the repeats; 95 % intervals from {metrics['bootstrap_samples']} bootstrap samples of patients "
        "(AUC: one row a patient, the lower hip). The mean predictor says the mean of each fold's training patients."
    )
    return table(["figure", "model", "mean predictor"], rows, caption=caption)


def _folds(metrics: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{one['repeat'] + 1}, {one['fold'] + 1}",
            str(one["n_subjects"]),
            str(one["n_images"]),
            *(number(one[name], "g/cm2") for name in ("rmse_g_cm2", "mean_predictor_rmse_g_cm2", "bias_g_cm2")),
        ]
        for one in metrics["by_fold"]
    ]
    head = ["repeat, fold", "patients", "images", "RMSE", "RMSE of the mean", "bias"]
    return table(head, rows, caption="Figures of single folds are of few patients.")
