"""The pictures of a report, as data URIs that need no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Image = NDArray[np.float32]

_INK, _ACCENT, _SOFT = "#1b2733", "#0b6fa4", "#7a8a99"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "hierbmd",
}
"""How every plot of a report looks."""
_WINDOW_PERCENTILES = (1.0, 99.5)
"""What a radiograph is windowed to for the eye."""
_TOP_PERCENTILE = 99.5
"""Where the colours of areal densities end."""
_BONE_FROM_G_CM2 = 0.05
"""Areal density from which a pixel counts as bone when a picture is framed."""


def png_file(path: Path) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def radiograph(pixels: Image, *, pixel_mm: tuple[float, float]) -> str:
    """A radiograph (H, W), bone bright, windowed between its percentiles."""
    low, high = np.percentile(pixels, _WINDOW_PERCENTILES)
    return _png(_image_panels([("", pixels, {"cmap": "gray", "vmin": low, "vmax": high})], pixel_mm))


@dataclass(frozen=True)
class DensityLook:
    """How the density images of one report are shown, all alike: the part of the frame, and where the colours end."""

    rows: slice
    columns: slice
    peak_g_cm2: float
    difference_g_cm2: float


def density_look(pairs: Sequence[tuple[Image, Image]]) -> DensityLook:
    """One look for every (predicted, true) areal density (H, W) of a report.

    The box that holds all true regions with a margin; colours up to a high percentile of what is bone in any of them,
    so that a few bright pixels of cortex do not darken the rest.
    """
    true = np.max([true for _, true in pairs], axis=0) > _BONE_FROM_G_CM2
    rows, columns = (_span(true.any(axis=axis)) for axis in (1, 0))
    shown = np.stack([[image[rows, columns] for image in pair] for pair in pairs])
    bone = shown[shown > _BONE_FROM_G_CM2]
    difference = np.abs(shown[:, 0] - shown[:, 1])[shown.max(axis=1) > _BONE_FROM_G_CM2]
    peak, apart = (float(np.percentile(x, _TOP_PERCENTILE)) if x.size else 1.0 for x in (bone, difference))
    return DensityLook(rows, columns, peak, max(apart, 1e-3))


def _span(there: NDArray[np.bool_]) -> slice:
    """From the first to the last that is there, with a margin; everything where nothing is."""
    found = np.flatnonzero(there)
    if not found.size:
        return slice(0, there.size)
    margin = max(2, (int(found[-1]) - int(found[0])) // 6)
    return slice(max(0, int(found[0]) - margin), min(there.size, int(found[-1]) + margin + 1))


def densities(predicted: Image, true: Image, *, pixel_mm: tuple[float, float], look: DensityLook) -> str:
    """Predicted and true areal density (H, W) on one colour scale, and their difference on its own."""
    scale = {"cmap": "magma", "vmin": 0.0, "vmax": look.peak_g_cm2}
    spread = {"cmap": "RdBu_r", "vmin": -look.difference_g_cm2, "vmax": look.difference_g_cm2}
    predicted, true = (image[look.rows, look.columns] for image in (predicted, true))
    panels = [("predicted", predicted, scale), ("true", true, scale), ("predicted - true", predicted - true, spread)]
    with rc_context(STYLE):
        figure = _image_panels(panels, pixel_mm)
        axes = figure.axes
        bar: Any = {"fraction": 0.05, "pad": 0.03, "aspect": 24}
        figure.colorbar(axes[1].images[0], ax=axes[:2], label="areal density (g/cm2)", extend="max", **bar)
        bar["fraction"] = 0.1
        figure.colorbar(axes[2].images[0], ax=axes[2], label="difference (g/cm2)", extend="both", **bar)
        return _png(figure)


def scatter(reference: NDArray[np.float64], predicted: NDArray[np.float64], *, mean_g_cm2: float) -> str:
    """Predicted against reference BMD, g/cm2, with the identity line and the mean predictor's level."""
    with rc_context(STYLE):
        figure, axes = _plot()
        low, high = (float(f(np.concatenate([reference, predicted]))) for f in (np.min, np.max))
        margin = 0.05 * (high - low) + 1e-3
        ends = np.array([low - margin, high + margin])
        axes.plot(ends, ends, color=_INK, lw=1, label="identity")
        axes.axhline(mean_g_cm2, color=_SOFT, lw=1, ls="--", label="mean predictor")
        axes.scatter(reference, predicted, s=22, color=_ACCENT, alpha=0.75, edgecolor="white", lw=0.4)
        axes.set(xlim=ends, ylim=ends, xlabel="reference BMD (g/cm2)", ylabel="predicted BMD (g/cm2)", aspect="equal")
        axes.legend(frameon=False, loc="upper left")
        return svg(figure)


def bland_altman(
    reference: NDArray[np.float64], predicted: NDArray[np.float64], *, lines_g_cm2: dict[str, float | None]
) -> str:
    """Differences against means of predicted and reference BMD, g/cm2, with named horizontal lines."""
    with rc_context(STYLE):
        figure, axes = _plot()
        axes.axhline(0.0, color=_SOFT, lw=0.8)
        axes.scatter(
            (reference + predicted) / 2, predicted - reference, s=22, color=_ACCENT, alpha=0.75, ec="w", lw=0.4
        )
        for name, level in lines_g_cm2.items():
            if level is not None:
                axes.axhline(level, color=_INK, lw=1, ls="-" if name == "bias" else "--")
                axes.annotate(
                    f"{name} {level:+.3f}",
                    (1.0, level),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="right",
                    va="bottom",
                    fontsize=9,
                )
        axes.set(xlabel="mean of predicted and reference (g/cm2)", ylabel="predicted - reference (g/cm2)")
        axes.margins(y=0.15)
        return svg(figure)


def _plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    return figure, figure.subplots()


def _image_panels(panels: list[tuple[str, Image, dict[str, Any]]], pixel_mm: tuple[float, float]) -> Figure:
    height_px, width_px = panels[0][1].shape
    aspect = pixel_mm[1] / pixel_mm[0]
    tall = 3.3
    wide = tall * width_px / (height_px * aspect)
    figure = Figure(figsize=(wide * len(panels) + (1.7 if len(panels) > 1 else 0), tall), layout="constrained")
    for axes, (title, image, look) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(image, aspect=aspect, interpolation="nearest", **look)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    return figure


def _png(figure: Figure) -> str:
    return "data:image/png;base64," + _encoded(figure, format="png", dpi=190)


def svg(figure: Figure) -> str:
    """A figure as an SVG data URI, the same bytes every time."""
    return "data:image/svg+xml;base64," + _encoded(figure, format="svg", metadata={"Date": None})


def _encoded(figure: Figure, **settings: Any) -> str:
    with rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, **settings)
    return base64.b64encode(buffer.getvalue()).decode()
