"""The picture to judge a calibration by: the rods found on slices, what they read, residuals, drift along the scan.

An internal calibration shows what the tissues read instead. Everything drawn is in the calibration; the CT gives the
slices behind it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from hierbmd.calibration.fit import rod_limit_mg_cm3
from hierbmd.calibration.slices import Slices, slices_of
from hierbmd.data.calibration import Calibration
from hierbmd.data.volume import Volume
from hierbmd.io.atomic import atomic_path
from hierbmd.report.pictures import STYLE
from hierbmd.report.plots import COLOURS
from hierbmd.rigid import invert_rigid, transform_points

_WINDOW_HU = (-200.0, 400.0)
_MARGIN_MM = 30.0
_FOUND, _NOT_READ = "#ffd000", "#ff5050"


def write_calibration_picture(path: str | Path, volume: Volume, calibration: Calibration) -> None:
    """Write the picture of a measured calibration of a CT as PNG, atomically."""
    with rc_context(STYLE):
        figure = _of_rods(volume, calibration) if calibration.rods else _of_tissues(volume, calibration)
        figure.suptitle(_title(calibration), fontsize=10)
        with atomic_path(Path(path)) as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def _title(calibration: Calibration) -> str:
    name = calibration.phantom or "INTERNAL: the patient's own tissues"
    error = "" if calibration.uncertainty is None else f" \N{PLUS-MINUS SIGN} {calibration.uncertainty.slope_se:.4f}"
    return (
        f"{name}: density = ({calibration.slope:.4f}{error}) HU {calibration.intercept:+.2f} mg/cm3 "
        f"{calibration.material.value}, residual {calibration.residual_mg_cm3:.2f}. Research use only."
    )


def _of_rods(volume: Volume, calibration: Calibration) -> Figure:
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(0.75, 1.25)))
    slices = slices_of(volume)
    axes_mm = np.array([rod["axis_world_mm"] for rod in calibration.rods])
    for axes, share in zip(top.subplots(1, 3), (0.0, 0.5, 1.0), strict=True):
        _rods_on_slice(axes, slices, calibration, axes_mm[:, 0] + share * (axes_mm[:, 1] - axes_mm[:, 0]))
    fit, off, along = bottom.subplots(1, 3)
    _fit(fit, calibration)
    _residuals(off, calibration)
    _drift(along, calibration)
    return figure


def _rods_on_slice(axes: Axes, slices: Slices, calibration: Calibration, centres_mm: NDArray[np.float64]) -> None:
    """The slice nearest to the rods' centres (rods, 3), LPS mm, with their rims and what was averaged over."""
    places = transform_points(invert_rigid(slices.world_from_stack), centres_mm)
    k = int(np.clip(round(float(places[:, 2].mean() / slices.spacing_mm[2])), 0, slices.values.shape[2] - 1))
    _show(axes, slices, k)
    for rod, (u, v, _) in zip(calibration.rods, places, strict=True):
        colour = _FOUND if rod["read"] else _NOT_READ
        axes.add_patch(Circle((u, v), 0.5 * rod["diameter_mm"], fill=False, ec=colour, lw=0.7, ls=":"))
        axes.add_patch(Circle((u, v), 0.5 * rod["read_diameter_mm"], fill=False, ec=colour, lw=1.1))
        axes.annotate(rod["name"], (u, v), color=colour, ha="center", va="center", fontsize=6)
    axes.set_xlim(places[:, 0].min() - _MARGIN_MM, places[:, 0].max() + _MARGIN_MM)
    axes.set_ylim(places[:, 1].max() + _MARGIN_MM, places[:, 1].min() - _MARGIN_MM)
    axes.set_title(f"z = {float(centres_mm[:, 2].mean()):.0f} mm", fontsize=9)


def _show(axes: Axes, slices: Slices, k: int) -> None:
    """A slice as radiology shows it: the patient's left on the right, the back down; axes in mm of the stack."""
    du, dv = slices.spacing_mm[:2]
    width, height = slices.values.shape[:2]
    low, high = _WINDOW_HU
    extent = (-0.5 * du, (width - 0.5) * du, (height - 0.5) * dv, -0.5 * dv)
    axes.imshow(slices.values[:, :, k].T, cmap="gray", vmin=low, vmax=high, extent=extent)
    axes.set_axis_off()


def _fit(axes: Axes, calibration: Calibration) -> None:
    read = [rod for rod in calibration.rods if rod["read"]]
    stated = np.array([rod["density_mg_cm3"] for rod in read])
    ends = [stated.min(), stated.max()]
    axes.plot(ends, ends, color=COLOURS[4], lw=1)
    axes.plot(stated, stated + [rod["residual_mg_cm3"] for rod in read], "o", ms=5, color=COLOURS[0])
    material = calibration.material.value
    axes.set(xlabel=f"stated, mg/cm\N{SUPERSCRIPT THREE} {material}", ylabel="read by the line")


def _residuals(axes: Axes, calibration: Calibration) -> None:
    read = [rod for rod in calibration.rods if rod["read"]]
    stated = np.array([rod["density_mg_cm3"] for rod in read])
    along = np.linspace(stated.min(), stated.max(), 100)
    limits = rod_limit_mg_cm3(along)
    axes.fill_between(along, -limits, limits, color=COLOURS[4], alpha=0.12, lw=0, label="accepted")
    axes.axhline(0.0, color=COLOURS[4], lw=1)
    axes.plot(stated, [rod["residual_mg_cm3"] for rod in read], "o", ms=5, color=COLOURS[0])
    for rod in read:
        axes.annotate(rod["name"], (rod["density_mg_cm3"], rod["residual_mg_cm3"]), (3, 4), textcoords="offset points")
    axes.set(xlabel="stated", ylabel="residual, mg/cm\N{SUPERSCRIPT THREE}")
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _drift(axes: Axes, calibration: Calibration) -> None:
    drift = calibration.drift
    if drift is None or not drift.by_slice_z_mm:
        axes.set_axis_off()
        return
    mean = float(np.mean(drift.by_slice_hu_per_mg))
    off_percent = [100.0 * (value / mean - 1.0) for value in drift.by_slice_hu_per_mg]
    axes.plot(drift.by_slice_z_mm, off_percent, ".-", color=COLOURS[0], lw=1, ms=4)
    axes.set(xlabel="z, mm", ylabel="HU for 1 mg/cm\N{SUPERSCRIPT THREE}: off its mean, %")
    axes.yaxis.label.set_color(COLOURS[0])
    other = axes.twinx()
    other.plot(drift.by_slice_z_mm, drift.by_slice_zero_hu, ".-", color=COLOURS[1], lw=1, ms=4)
    other.set_ylabel("no mineral reads, HU", color=COLOURS[1])
    other.spines["right"].set_visible(True)
    axes.set_title(
        f"drift {drift.slope_percent:+.2f} %, {drift.zero_hu:+.1f} HU over {drift.slices} slices", fontsize=9
    )


def _of_tissues(volume: Volume, calibration: Calibration) -> Figure:
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    picture, fit, off = figure.subplots(1, 3)
    slices = slices_of(volume)
    _show(picture, slices, slices.values.shape[2] // 2)
    names = [tissue["name"].replace("_", " ") for tissue in calibration.tissues]
    expected = [tissue["expected_hu"] for tissue in calibration.tissues]
    read = [tissue["hu"] for tissue in calibration.tissues]
    fit.plot([min(expected), max(expected)], [min(expected), max(expected)], color=COLOURS[4], lw=1)
    fit.plot(expected, read, "o", ms=5, color=COLOURS[0])
    fit.set(xlabel=f"expected at {calibration.effective_kev:.1f} keV, HU", ylabel="read, HU")
    shares = [_in_tolerances(tissue) for tissue in calibration.tissues]
    off.axvspan(-1.0, 1.0, color=COLOURS[4], alpha=0.12, lw=0)
    off.barh(range(len(names)), shares, color=COLOURS[0], height=0.5)
    labels = [
        f"{name} ({tissue['found']})\n{hu:.0f} HU"
        for name, hu, tissue in zip(names, read, calibration.tissues, strict=True)
    ]
    off.set_yticks(range(len(names)), labels)
    off.set(xlabel="read less expected, in tolerances", xlim=(-3.2, 3.2))
    return figure


def _in_tolerances(tissue: dict[str, Any]) -> float:
    return float((tissue["hu"] - tissue["expected_hu"]) / tissue["tolerance_hu"])
