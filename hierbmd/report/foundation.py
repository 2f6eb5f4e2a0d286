"""Pictures of foundation models: the table of a grid as a plot, and maps of where a model looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hierbmd.io.atomic import atomic_path
from hierbmd.report.pictures import STYLE
from hierbmd.report.plots import COLOURS

_PANELS = {
    "auc_osteoporosis": "AUC, osteoporosis",
    "rmse_g_cm2": "RMSE (g/cm2)",
    "auc_change_bone": "AUC change, bone perturbed",
    "iou_integrated_gradients": "IoU with bone (dash: chance)",
}
_ENDS = {"auc_osteoporosis": (0.0, 1.03), "iou_integrated_gradients": (0.0, 1.0)}
_SHOWN = 4


class ShownMaps(Protocol):
    """An image (H, W) with its bone (H, W) bool and the maps (H, W) over it by name."""

    @property
    def image(self) -> NDArray[np.float32]: ...
    @property
    def bone(self) -> NDArray[np.bool_]: ...
    @property
    def maps(self) -> Mapping[str, NDArray[np.float32]]: ...


def plot_grid(path: Path, rows: Sequence[Mapping[str, Any]], *, simulated: bool) -> None:
    """Every model's figures with their intervals, a panel a figure, one colour a strategy, as a PNG."""
    backbones = list(dict.fromkeys(row["backbone"] for row in rows))
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(_PANELS), 4.2), layout="constrained")
        for axes, (name, words) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
            for number, strategy in enumerate(strategies):
                for row in (row for row in rows if row["strategy"] == strategy and row[name] is not None):
                    at = backbones.index(row["backbone"]) + 0.2 * (number - (len(strategies) - 1) / 2)
                    _point(axes, at, row, name, COLOURS[number % len(COLOURS)])
                    if name.startswith("iou"):
                        axes.plot([at], [row["iou_chance"]], "_", color=COLOURS[-1])
            axes.set_xticks(range(len(backbones)), backbones, rotation=40, ha="right")
            axes.set(xlim=(-0.5, len(backbones) - 0.5), title=words)
            if name in _ENDS:
                axes.set_ylim(*_ENDS[name])
        for number, strategy in enumerate(strategies):
            figure.axes[0].plot([], [], "o", color=COLOURS[number % len(COLOURS)], label=strategy)
        figure.axes[0].legend(frameon=False)
        notes = sorted({str(row["weights"]) for row in rows}) + (["simulated data"] if simulated else [])
        figure.supxlabel(f"{', '.join(notes)}. Research use only.", fontsize=9)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110)


def plot_maps(path: Path, shown: Sequence[ShownMaps], *, pixel_mm: tuple[float, float], note: str) -> None:
    """A few images with bone's outline, a row each, beside their maps, as a PNG; no file where there is no image."""
    if not shown:
        return
    rows = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, _SHOWN).round().astype(int))]
    names = list(rows[0].maps)
    height, width = rows[0].image.shape
    aspect = pixel_mm[1] / pixel_mm[0]
    with rc_context(STYLE):
        size = (2.4 * (1 + len(names)), 2.4 * len(rows) * height * aspect / width + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        table = np.asarray(figure.subplots(len(rows), 1 + len(names), squeeze=False))
        for line, one in zip(table, rows, strict=True):
            low, high = np.percentile(one.image, [1.0, 99.5])
            for axes, name in zip(line, ["", *names], strict=True):
                axes.imshow(one.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
                axes.contour(one.bone, levels=[0.5], colors="#57c1ff", linewidths=0.8)
                axes.set_axis_off()
                if name:
                    ends = np.percentile(one.maps[name], [1.0, 99.0])
                    look: Any = {"vmin": ends[0], "vmax": max(ends[1], ends[0] + 1e-12)}
                    axes.imshow(one.maps[name], cmap="inferno", alpha=0.6, aspect=aspect, **look)
        for axes, name in zip(table[0], ["bone outlined", *names], strict=True):
            axes.set_title(name.replace("_", " "), fontsize=9)
        figure.supxlabel(note, fontsize=8)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110)


def _point(axes: Axes, at: float, row: Mapping[str, Any], name: str, colour: str) -> None:
    axes.plot([at], [row[name]], "o", color=colour)
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is not None and high is not None:
        axes.vlines(at, low, high, color=colour, lw=1.2)
