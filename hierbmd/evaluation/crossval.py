"""Cross-validation: what the runs of a repeated k-fold read of the patients that each held out, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import RESEARCH_USE_ONLY, Reference, reference_for
from hierbmd.data.pairs import DatasetCard, PairRecord
from hierbmd.errors import BadConfig
from hierbmd.evaluation.agreement import repeated_agreement, rmse
from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.comparison import CONDITION
from hierbmd.evaluation.estimate import Estimate, Undefined
from hierbmd.evaluation.files import versions
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.screening import auc_delong
from hierbmd.evaluation.summary import NO_REFERENCE, Row, has_condition

Values = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """One fold of one repeat: the images held out, the BMD read of each, and the mean BMD of the patients learnt from.

    All in g/cm2; `repeat` and `fold` count from 0.
    """

    repeat: int
    fold: int
    records: tuple[PairRecord, ...]
    predicted_g_cm2: tuple[float, ...]
    mean_g_cm2: float


@dataclass(frozen=True)
class CrossValidation:
    """`metrics` for metrics.json, and a row for every image and repeat for predictions.csv."""

    metrics: dict[str, Any]
    rows: tuple[Row, ...]


def cross_validation(
    parts: Sequence[HeldOut], *, folds: int, card: DatasetCard, options: EvaluationOptions
) -> CrossValidation:
    """The out-of-fold figures of a repeated patient-grouped k-fold, beside each fold's mean predictor.

    A figure is computed over all images of a repeat and averaged over the repeats. Its interval is the bootstrap over
    patients, each with all its images in all repeats, as repeats are no new patients; it holds the models as they are,
    and does not know how they would differ on other training patients. BadConfig when a repeat lacks a fold.
    """
    records, predicted, constant = _tables(parts, folds)
    reference = np.array([record.bmd_g_cm2 for record in records])
    subjects = [record.subject for record in records]
    young_adults = reference_for(options.reference, card.region)
    drawn = BootstrapOptions(options.bootstrap_samples, options.seed)
    model, baseline = (
        repeated_agreement(list(values), reference, subjects, options=drawn) for values in (predicted, constant)
    )
    pairs = list(zip(predicted, constant, strict=True))
    less = bootstrapped(
        lambda at: float(np.mean([rmse(a[at], reference[at]) - rmse(b[at], reference[at]) for a, b in pairs])),
        subjects,
        unit="g/cm2",
        options=drawn,
    )
    metrics = {
        "folds": folds,
        "repeats": len(predicted),
        "n_subjects": len(set(subjects)),
        "n_images": len(records),
        "seed": options.seed,
        "bootstrap_samples": options.bootstrap_samples,
        "agreement": {"model": _json(model), "mean_predictor": _json(baseline)},
        "rmse_less_mean_predictor_g_cm2": less.as_json(),
        f"auc_{CONDITION}": _auc(records, predicted, young_adults, drawn).as_json(),
        "reference_population": None if young_adults is None else young_adults.name,
        "repeat_sd": _spread(predicted, reference),
        "by_fold": [_fold(part) for part in parts],
        "bmd_sources": sorted({record.bmd_source for record in records}),
        "simulated": card.simulated,
        "versions": versions(),
        "research_use_only": RESEARCH_USE_ONLY,
    }
    return CrossValidation(metrics, tuple(_rows(parts)))


def _tables(parts: Sequence[HeldOut], folds: int) -> tuple[list[PairRecord], Values, Values]:
    """The images in the first repeat's order, and (repeats, images) of the BMD read and of the mean learnt from."""
    repeats = sorted({part.repeat for part in parts})
    for repeat in repeats:
        missing = sorted(set(range(folds)) - {part.fold for part in parts if part.repeat == repeat})
        if missing:
            lacking = ", ".join(map(str, missing))
            raise BadConfig(f"repeat {repeat} lacks fold {lacking} of {folds}", mend="give the runs of every fold")
    read = {
        (part.repeat, record.pair_id): (value, part.mean_g_cm2)
        for part in parts
        for record, value in zip(part.records, part.predicted_g_cm2, strict=True)
    }
    records = [record for part in parts if part.repeat == repeats[0] for record in part.records]
    table = np.array([[read[repeat, record.pair_id] for record in records] for repeat in repeats])
    return records, table[..., 0], table[..., 1]


def _auc(
    records: Sequence[PairRecord], predicted: Values, reference: Reference | None, drawn: BootstrapOptions
) -> Estimate:
    """The area under the curve for osteoporosis, one row a patient, averaged over the repeats."""
    if reference is None:
        return Estimate.undefined(NO_REFERENCE)
    tables = [Readings.of(records, row.tolist()).by_patient() for row in predicted]
    positive = has_condition(CONDITION, tables[0][1], reference)

    def mean_area(at: NDArray[np.intp]) -> float:
        areas = [auc_delong(-values[at], positive[at]) for values, _ in tables]
        if areas[0].value is None:
            raise Undefined(str(areas[0].reason))
        return float(np.mean([area.value for area in areas]))

    return bootstrapped(mean_area, sorted({record.subject for record in records}), unit="", options=drawn)


def _spread(predicted: Values, reference: Values) -> dict[str, float | None]:
    """How far the repeats lie apart: the SD of RMSE over repeats, g/cm2; None with one."""
    if len(predicted) < 2:
        return {"rmse_g_cm2": None}
    return {"rmse_g_cm2": float(np.std([rmse(row, reference) for row in predicted], ddof=1))}


def _fold(part: HeldOut) -> Row:
    reference = [record.bmd_g_cm2 for record in part.records]
    return {
        "repeat": part.repeat,
        "fold": part.fold,
        "n_subjects": len({record.subject for record in part.records}),
        "n_images": len(part.records),
        "rmse_g_cm2": rmse(part.predicted_g_cm2, reference),
        "mean_predictor_rmse_g_cm2": rmse([part.mean_g_cm2] * len(reference), reference),
        "bias_g_cm2": float(np.mean(np.subtract(part.predicted_g_cm2, reference))),
    }


def _rows(parts: Sequence[HeldOut]) -> list[Row]:
    return [
        {
            "repeat": part.repeat,
            "fold": part.fold,
            "pair_id": record.pair_id,
            "subject": record.subject,
            "side": record.side.value,
            "bmd_reference_g_cm2": record.bmd_g_cm2,
            "bmd_predicted_g_cm2": value,
            "mean_predictor_g_cm2": part.mean_g_cm2,
            "research_use_only": RESEARCH_USE_ONLY,
        }
        for part in parts
        for record, value in zip(part.records, part.predicted_g_cm2, strict=True)
    ]


def _json(figures: dict[str, Estimate]) -> dict[str, Any]:
    return {name: figure.as_json() for name, figure in figures.items()}
