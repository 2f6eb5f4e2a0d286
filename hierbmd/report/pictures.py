"""The pictures of a report, as data URIs that need no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Image = NDArray[np.float32]

_INK, _ACCENT, _SOFT = "#1b2733", "#0b6fa4", "#7a8a99"
_STYLE: Any = {
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
_WINDOW_PERCENTILES = (1.0, 99.5)
"""What a radiograph is windowed to for the eye."""


def png_file(path: Path) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def radiograph(pixels: Image, *, pixel_mm: tuple[float, float]) -> str:
    """A radiograph (H, W), bone bright, windowed between its percentiles."""
    low, high = np.percentile(pixels, _WINDOW_PERCENTILES)
    return _png(_image_panels([("", pixels, {"cmap": "gray", "vmin": low, "vmax": high})], pixel_mm))


def densities(predicted: Image, true: Image, *, pixel_mm: tuple[float, float], peak_g_cm2: float) -> str:
    """Predicted and true areal density (H, W) on one colour scale, 0 to the peak, and their difference on its own."""
    scale = {"cmap": "magma", "vmin": 0.0, "vmax": peak_g_cm2}
    spread = {"cmap": "RdBu_r", "vmin": -peak_g_cm2 / 4, "vmax": peak_g_cm2 / 4}
    panels = [("predicted", predicted, scale), ("true", true, scale), ("predicted - true", predicted - true, spread)]
    with rc_context(_STYLE):
        figure = _image_panels(panels, pixel_mm)
        axes = figure.axes
        figure.colorbar(axes[1].images[0], ax=axes[:2], label="areal density (g/cm2)", fraction=0.05, pad=0.03)
        figure.colorbar(axes[2].images[0], ax=axes[2], label="difference (g/cm2)", fraction=0.1, pad=0.06)
        return _png(figure)


def scatter(reference: NDArray[np.float64], predicted: NDArray[np.float64], *, mean_g_cm2: float) -> str:
    """Predicted against reference BMD, g/cm2, with the identity line and the mean predictor's level."""
    with rc_context(_STYLE):
        figure, axes = _plot()
        low, high = (float(f(np.concatenate([reference, predicted]))) for f in (np.min, np.max))
        margin = 0.05 * (high - low) + 1e-3
        ends = np.array([low - margin, high + margin])
        axes.plot(ends, ends, color=_INK, lw=1, label="identity")
        axes.axhline(mean_g_cm2, color=_SOFT, lw=1, ls="--", label="mean predictor")
        axes.scatter(reference, predicted, s=22, color=_ACCENT, alpha=0.75, edgecolor="white", lw=0.4)
        axes.set(xlim=ends, ylim=ends, xlabel="reference BMD (g/cm2)", ylabel="predicted BMD (g/cm2)", aspect="equal")
        axes.legend(frameon=False, loc="upper left")
        return _svg(figure)


def bland_altman(
    reference: NDArray[np.float64], predicted: NDArray[np.float64], *, lines_g_cm2: dict[str, float | None]
) -> str:
    """Differences against means of predicted and reference BMD, g/cm2, with named horizontal lines."""
    with rc_context(_STYLE):
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
                    ha="right",
                    va="bottom",
                    fontsize=9,
                )
        axes.set(xlabel="mean of predicted and reference (g/cm2)", ylabel="predicted - reference (g/cm2)")
        axes.margins(y=0.15)
        return _svg(figure)


def _plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    return figure, figure.subplots()


def _image_panels(panels: list[tuple[str, Image, dict[str, Any]]], pixel_mm: tuple[float, float]) -> Figure:
    height_px, width_px = panels[0][1].shape
    aspect = pixel_mm[1] / pixel_mm[0]
    tall = 3.3
    wide = tall * width_px / (height_px * aspect)
    figure = Figure(figsize=(wide * len(panels) + (2.0 if len(panels) > 1 else 0), tall), layout="constrained")
    for axes, (title, image, look) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(image, aspect=aspect, interpolation="nearest", **look)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    return figure


def _png(figure: Figure) -> str:
    return "data:image/png;base64," + _encoded(figure, format="png", dpi=190)


def _svg(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + _encoded(figure, format="svg", metadata={"Date": None})


def _encoded(figure: Figure, **settings: Any) -> str:
    with rc_context(_STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, **settings)
    return base64.b64encode(buffer.getvalue()).decode()
