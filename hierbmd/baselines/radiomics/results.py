"""What the seven models are worth: on held-out training patients, on the test split, on another data set."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.baselines.radiomics.nested import Rows, by_patient
from hierbmd.baselines.radiomics.options import Options
from hierbmd.baselines.radiomics.pipeline import condition_of
from hierbmd.data.density import REFERENCES
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.comparison import system_figures
from hierbmd.evaluation.estimate import Estimate
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.screening import auc_delong, auc_difference, screening

RESULTS_FILE = "results.json"
TABLE_FILE = "models.csv"
READ_FILE = "predictions.csv"

PLACES = {
    "internal": "training patients, each read by models that did not learn from it",
    "test": "the data set's test patients",
    "external": "patients of another data set",
}
"""Where figures are from: key and words."""


@dataclass(frozen=True)
class Read:
    """What a model read in one place: (n, 2) BMD in g/cm2 and probability, (n,) the thresholds that hold there."""

    rows: Rows
    read: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    no_threshold: str = ""


def figures(found: Read, options: Options) -> dict[str, Any]:
    """A model's figures in one place: AUC, the triage "recommend DXA", and the BMD's r and RMSE."""
    condition = condition_of(options)
    settings = EvaluationOptions(
        reference=options.reference, bootstrap_samples=options.bootstrap_samples, seed=options.seed
    )
    readings = Readings.of(found.rows.records, found.read[:, 0].tolist())
    bmd = system_figures(readings, settings, reference=REFERENCES[options.reference])
    risk, positive = by_patient(found.rows, found.read[:, 1], condition)
    # A patient is recommended whose risk is above its fold's threshold: the margin, with one threshold of zero.
    margin, _ = by_patient(found.rows, found.read[:, 1] - found.thresholds, condition)
    known = bool(np.isfinite(margin).all())
    triage = screening(
        -np.where(np.isfinite(margin), margin, 0.0),
        positive,
        threshold_g_cm2=0.0 if known else None,
        no_threshold=found.no_threshold or "no threshold: one class only in a fold's training patients",
    ).as_json()
    return {
        "n_patients": len(risk),
        "n_positive": int(positive.sum()),
        "n_images": len(found.rows.records),
        "auc": auc(risk, positive).as_json(),
        "recommend_dxa": {name: triage[name] for name in ("sensitivity", "specificity", "ppv", "npv", "called")},
        "bmd": {name: bmd[name].as_json() for name in ("pearson_r", "rmse_g_cm2")},
    }


def auc(risk: NDArray[np.float64], positive: NDArray[np.bool_]) -> Estimate:
    """DeLong's AUC over patients; undefined where a model has learnt from one class only."""
    if not np.isfinite(risk).all():
        return Estimate.undefined("one class only in the training patients")
    return auc_delong(risk, positive)


def paired(found: Mapping[str, Read], options: Options) -> dict[str, Any]:
    """AUC of every model less that of every other, on the same patients, by DeLong's paired test."""
    condition = condition_of(options)
    risks = {name: by_patient(one.rows, one.read[:, 1], condition) for name, one in found.items()}
    compared = {}
    for second, first in itertools.combinations(risks, 2):
        (a, positive), (b, _) = risks[first], risks[second]
        if np.isfinite(a).all() and np.isfinite(b).all():
            difference, p = auc_difference(a, b, positive)
            compared[f"{first} less {second}"] = {**difference.as_json(), "p": p}
    return compared


def predictions(found: Mapping[str, Mapping[str, Read]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and rows of predictions.csv: each image with what every model read of it, by place."""
    columns = ["place", "pair_id", "bmd_reference_g_cm2"]
    rows: list[dict[str, Any]] = []
    for place, models in found.items():
        first = next(iter(models.values()))
        for i, record in enumerate(first.rows.records):
            row = {"place": place, "pair_id": record.pair_id, "bmd_reference_g_cm2": record.bmd_g_cm2}
            for name, one in models.items():
                risk = float(one.read[i, 1])
                row |= {f"{name}_bmd_g_cm2": float(one.read[i, 0]), f"{name}_risk": risk if np.isfinite(risk) else None}
            rows.append(row)
    return list(dict.fromkeys([*columns, *(name for row in rows for name in row)])), rows
