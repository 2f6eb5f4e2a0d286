"""What cross-validation found: figures of each site beside the mean predictor's, one row a patient, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.baselines.lumbar.options import SITES
from hierbmd.baselines.lumbar.targets import CATEGORIES
from hierbmd.data.density import RESEARCH_USE_ONLY, DensityClass, Reference
from hierbmd.evaluation.agreement import agreement
from hierbmd.evaluation.bootstrap import BootstrapOptions
from hierbmd.evaluation.screening import Screening, auc_delong, screening
from hierbmd.evaluation.summary import CONDITIONS, has_condition
from hierbmd.io.atomic import atomic_path
from hierbmd.io.tables import write_table

TABLE_FILE, FIGURES_FILE, PICTURE_FILE = "cross_validation.csv", "cross_validation.json", "cross_validation.png"

_AGREEMENT = ("pearson_r", "mae_g_cm2", "rmse_g_cm2", "bias_g_cm2", "limit_low_g_cm2", "limit_high_g_cm2")


@dataclass(frozen=True)
class Held:
    """What the network of a patient's fold, which never saw them, read: images of one patient averaged.

    `bmd_g_cm2` (S,) and `shares` (S, C) of the categories; `true_g_cm2` (S,) NaN where unknown; `categories` (S,) are
    the true ones, -1 where there is none; `mean_g_cm2` (S,) is what the fold's mean predictor says.
    """

    subject: str
    fold: int
    bmd_g_cm2: NDArray[np.float64]
    shares: NDArray[np.float64]
    true_g_cm2: NDArray[np.float64]
    categories: NDArray[np.int64]
    mean_g_cm2: NDArray[np.float64]
    femur_source: str


def site_figures(held: Sequence[Held], site: int, reference: Reference, drawn: BootstrapOptions) -> dict[str, Any]:
    """Agreement and screening of one site over the patients whose BMD is known, beside the mean predictor's."""
    known = [one for one in held if np.isfinite(one.true_g_cm2[site])]
    subjects = [one.subject for one in known]
    predicted, true, mean = (
        np.array([getattr(one, name)[site] for one in known]) for name in ("bmd_g_cm2", "true_g_cm2", "mean_g_cm2")
    )
    shares = np.array([one.shares[site] for one in known])
    judged = np.array([one.categories[site] >= 0 for one in known], dtype=bool)
    model = agreement(predicted, true, subjects, options=drawn)
    constant = agreement(mean, true, subjects, options=drawn)
    return {
        "n_patients": len(known),
        "n_of_t_score_age": int(judged.sum()),
        "reference": reference.name,
        "model": {name: model[name].as_json() for name in _AGREEMENT},
        "mean_predictor": {name: constant[name].as_json() for name in ("mae_g_cm2", "rmse_g_cm2")},
        "screening": {
            name: {
                "by_category": _of_categories(shares[judged], true[judged], reference, name),
                "by_t_score": _of_values(predicted[judged], true[judged], reference, name),
            }
            for name in CONDITIONS
        },
    }


def _of_values(
    predicted: NDArray[np.float64], true: NDArray[np.float64], reference: Reference, condition: str
) -> dict[str, Any]:
    """Screening by the value output: called where its own T-score has the condition."""
    truth = has_condition(condition, true, reference)
    return _json(screening(predicted, truth, threshold_g_cm2=_limit(condition, reference)))


def _of_categories(
    shares: NDArray[np.float64], true: NDArray[np.float64], reference: Reference, condition: str
) -> dict[str, Any]:
    """Screening by the category output: called where the likeliest category has the condition, AUC by its share."""
    truth = has_condition(condition, true, reference)
    counted = np.array([category in CONDITIONS[condition] for category in CATEGORIES])
    called = counted[np.argmax(shares, axis=1)]
    found = screening(np.where(called, 0.0, 1.0), truth, threshold_g_cm2=0.5)
    return _json(replace(found, auc=auc_delong(shares[:, counted].sum(axis=1), truth), threshold_g_cm2=None))


def _limit(condition: str, reference: Reference) -> float:
    """The BMD in g/cm2 at and below which a T-score has the condition, as near as floats come."""
    t_score = -2.5 if CONDITIONS[condition] == (DensityClass.OSTEOPOROSIS,) else np.nextafter(-1.0, -2.0)
    return float(reference.mean_g_cm2 + t_score * reference.sd_g_cm2)


def _json(found: Screening) -> dict[str, Any]:
    return {name: value for name, value in found.as_json().items() if name != "threshold_g_cm2" or value is not None}


def write_rows(out: Path, held: Sequence[Held]) -> None:
    """Write `cross_validation.csv`: a row a patient, with the fold that held them out."""
    columns = ["subject", "fold"]
    for site in SITES:
        columns += [f"{site}_{name}" for name in ("reference_g_cm2", "predicted_g_cm2", "mean_predictor_g_cm2")]
        columns += [f"{site}_share_{category.name.lower()}" for category in CATEGORIES] + [f"{site}_category"]
    rows = [_row(one) for one in held]
    write_table(out / TABLE_FILE, [*columns, "femur_source", "research_use_only"], rows)


def _row(one: Held) -> dict[str, Any]:
    row: dict[str, Any] = {"subject": one.subject, "fold": one.fold, "femur_source": one.femur_source}
    for n, site in enumerate(SITES):
        known = bool(np.isfinite(one.true_g_cm2[n]))
        row[f"{site}_reference_g_cm2"] = round(float(one.true_g_cm2[n]), 5) if known else None
        row[f"{site}_predicted_g_cm2"] = round(float(one.bmd_g_cm2[n]), 5)
        row[f"{site}_mean_predictor_g_cm2"] = round(float(one.mean_g_cm2[n]), 5)
        for category, share in zip(CATEGORIES, one.shares[n], strict=True):
            row[f"{site}_share_{category.name.lower()}"] = round(float(share), 4)
        row[f"{site}_category"] = CATEGORIES[int(np.argmax(one.shares[n]))].value
    return {**row, "research_use_only": RESEARCH_USE_ONLY}


def draw(path: Path, held: Sequence[Held], figures: Mapping[str, Any], *, simulated: bool) -> None:
    """Draw reference against prediction of both sites, with what the mean predictor says as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.3), layout="constrained")
    for n, (axes, site) in enumerate(zip(figure.subplots(1, 2), SITES, strict=True)):
        known = [one for one in held if np.isfinite(one.true_g_cm2[n])]
        true, predicted = ([float(getattr(one, name)[n]) for one in known] for name in ("true_g_cm2", "bmd_g_cm2"))
        ends = [min(true + predicted), max(true + predicted)]
        axes.plot(ends, ends, color="0.6", lw=1, label="equal")
        axes.axhline(float(np.mean([one.mean_g_cm2[n] for one in known])), color="0.6", lw=1, ls="--", label="mean")
        axes.plot(true, predicted, "o", ms=4, color="#0b6fa4")
        model = figures[site]["model"]
        mae, r = model["mae_g_cm2"]["value"], model["pearson_r"]["value"]
        said = "r not defined" if r is None else f"r {r:.2f}"
        axes.set(xlabel="reference, g/cm2", ylabel="held out, predicted, g/cm2")
        axes.set_title(f"{site}: MAE {mae:.3f} g/cm2, {said}, n = {len(known)}", fontsize=10)
        axes.legend(frameon=False, fontsize=8)
    of = "simulated radiographs. " if simulated else ""
    figure.suptitle(f"{of}{RESEARCH_USE_ONLY}".capitalize(), fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
