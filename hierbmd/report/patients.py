"""The patients of a report: radiograph, registration overlay, predicted and true density, BMD and T-score."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from hierbmd.report import pictures
from hierbmd.report.results import Results
from hierbmd.report.words import figure, number


def patients_section(read: Results) -> str:
    """The shown patients, lowest reference BMD first; they were chosen without a look at any prediction."""
    if not read.shown:
        return '<p class="note">No density images were kept.</p>'
    intro = (
        "Spread evenly over the reference BMD, from lowest to highest, chosen without looking at a prediction. Left "
        "hips are mirrored to look like right ones, as the model sees them; density images share one colour scale. "
        f"T-scores are against {read.metrics['reference_population']}; a DXA reference, so they are nominal."
    )
    return f'<p class="note">{escape(intro)}</p>' + "".join(_patient(read, row) for row in read.shown)


def _patient(read: Results, row: int) -> str:
    cells, pair = read.rows[row - 1], read.pair(row)
    side = escape(cells["side"])
    look = "mirrored to look like a right one" if pair.record.mirrored else "as on the film"
    overlays = read.overlays(row)
    shown = [
        figure(
            pictures.png_file(path),
            alt=f"Radiograph of the {side} hip, bone bright; the same with the outlines of the registered bones and of "
            "the measured region; and the bones' areal density at those poses.",
            caption="radiograph; registered hemipelvis, femur and region outlined; registered bones",
        )
        for path in overlays
    ] or [
        figure(
            pictures.radiograph(pair.radiograph, pixel_mm=read.dataset.card.frame.pixel_mm),
            alt=f"Radiograph of the {side} hip, bone bright.",
            caption="radiograph",
        )
    ]
    shown.append(_density_figure(read, row, pair.region))
    return (
        f'<article class="patient"><h3>Row {row} of predictions.csv: {side} hip, {look}</h3>'
        f'{_values(cells)}<div class="pictures">{"".join(shown)}</div></article>'
    )


def _density_figure(read: Results, row: int, true: NDArray[np.float32]) -> str:
    picture = pictures.densities(
        read.predicted_density(row),
        true,
        pixel_mm=read.dataset.card.frame.pixel_mm,
        peak_g_cm2=read.metrics["density_peak_g_cm2"],
    )
    alt = (
        "Predicted and true areal-density image of the region on one colour scale in g/cm2, and their difference; mean "
        f"absolute error on the bone {number(float(read.rows[row - 1]['density_mae_g_cm2']), 'g/cm2')}."
    )
    return figure(picture, alt=alt, caption="areal density of the region")


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


def _t_score(cells: Mapping[str, str], which: str) -> str:
    value = f"{float(cells[f't_score_{which}']):.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{value}, {escape(cells[f'class_{which}'])}"
