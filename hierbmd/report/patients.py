"""The patients of a report: radiograph, registration overlay, predicted and true density, BMD and T-score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.pairs import TrainingPair
from hierbmd.data.site import SkeletalSite, site_of
from hierbmd.report import pictures
from hierbmd.report.pictures import DensityLook
from hierbmd.report.results import Results
from hierbmd.report.words import figure, number

_MIRRORED_TO = {True: "a right one", False: "an AP view"}
"""What a mirrored image of a site with and without sides looks like."""


def patients_section(read: Results) -> str:
    """The shown patients, lowest reference BMD first; they were chosen without a look at any prediction.

    Patients go by their place on this page: their ids stay in predictions.csv.
    """
    if not read.shown:
        return '<p class="note">No density images were kept.</p>'
    mirrored = "Left hips are mirrored to look like right ones, as the model sees them. " * _site(read).paired
    intro = (
        "Spread evenly over the reference BMD, from lowest to highest, chosen without looking at a prediction. "
        f"{mirrored}Density images share one frame and one colour scale, which ends at the 99.5th percentile. "
        + t_scores_against(read.metrics)
    )
    shown = [_Shown(n, row, read.pair(row), read.predicted_density(row)) for n, row in enumerate(read.shown, start=1)]
    look = pictures.density_look([(one.predicted, one.pair.region) for one in shown])
    return f'<p class="note">{escape(intro)}</p>' + "".join(_patient(read, one, look) for one in shown)


def _site(read: Results) -> SkeletalSite:
    return site_of(read.dataset.card.region)


@dataclass(frozen=True)
class _Shown:
    """One patient of the page: the place on it (from 1), the row of predictions.csv, the pair, the prediction."""

    place: int
    row: int
    pair: TrainingPair
    predicted: NDArray[np.float32]


def _patient(read: Results, one: _Shown, look: DensityLook) -> str:
    cells = read.rows[one.row - 1]
    mirrored = f", mirrored to look like {_MIRRORED_TO[_site(read).paired]}" if one.pair.record.mirrored else ""
    title = f"Patient {one.place} of {len(read.shown)}: {_site(read).called(one.pair.record.side)}"
    return (
        f'<article class="patient"><h3>{title}<span class="aside">{mirrored}; row {one.row} of predictions.csv</span>'
        f'</h3>{_values(cells)}<div class="pictures">{_radiograph_figure(read, one)}{_density_figure(read, one, look)}'
        "</div></article>"
    )


def _radiograph_figure(read: Results, one: _Shown) -> str:
    """The strip that `prepare` left, which holds the radiograph and its overlay; the radiograph alone without."""
    site = _site(read).called(one.pair.record.side)
    outlined = "hemipelvis, femur" if _site(read).paired else "vertebrae"
    if one.pair.record.burned_in_annotation:
        return '<p class="note">Image withheld: the radiograph carries burned-in annotation.</p>'
    overlay = read.overlay(one.row)
    if overlay is not None:
        return figure(
            pictures.png_file(overlay),
            alt=f"Radiograph of the {site}, bone bright; the same with the outlines of the registered bones and of "
            "the measured region; and the bones' areal density at those poses.",
            caption=f"radiograph; registered {outlined} and region outlined; registered bones",
        )
    return figure(
        pictures.radiograph(one.pair.radiograph, pixel_mm=read.dataset.card.frame.pixel_mm),
        alt=f"Radiograph of the {site}, bone bright.",
        caption="radiograph",
    )


def _density_figure(read: Results, one: _Shown, look: DensityLook) -> str:
    picture = pictures.densities(one.predicted, one.pair.region, pixel_mm=read.dataset.card.frame.pixel_mm, look=look)
    error = number(float(read.rows[one.row - 1]["density_mae_g_cm2"]), "g/cm2")
    alt = (
        "Predicted and true areal-density image of the region on one colour scale in g/cm2, and their difference; mean "
        f"absolute error on the bone {error}."
    )
    return figure(picture, alt=alt, caption=f"areal density of the region; mean absolute error on the bone {error}")


def _values(cells: Mapping[str, str]) -> str:
    low, high = cells["interval_low_g_cm2"], cells["interval_high_g_cm2"]
    spread = f" ({number(float(low))} to {number(float(high))})" if low and high else ""
    facts = {
        "predicted BMD": number(float(cells["bmd_predicted_g_cm2"]), "g/cm2") + spread,
        "reference BMD": f"{number(float(cells['bmd_reference_g_cm2']), 'g/cm2')} ({escape(cells['bmd_source'])})",
        "predicted T-score": _t_score(cells, "predicted"),
        "reference T-score": _t_score(cells, "reference"),
    }
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items()) + "</dl>"


def t_scores_against(metrics: Mapping[str, Any]) -> str:
    """Whom T-scores compare with, in a sentence."""
    population = metrics["reference_population"]
    if population is None:
        return f"No T-scores: no young-adult reference of the {metrics['region'].replace('_', ' ')} is known here."
    return f"T-scores are against {population}; a DXA reference, so they are nominal."


def _t_score(cells: Mapping[str, str], which: str) -> str:
    if not cells[f"t_score_{which}"]:
        return f"none: {escape(cells['t_score_reason'])}"
    value = f"{float(cells[f't_score_{which}']):.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{value}, {escape(cells[f'class_{which}'])}"
