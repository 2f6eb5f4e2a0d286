"""The picture of cost against size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

_LINES = {
    "forward_s": ("hierbmd, image", "C0", "-"),
    "gradient_s": ("hierbmd, image and Jacobian", "C0", "--"),
    "rtk_forward_s": ("RTK Joseph, image", "C1", "-"),
    "nanodrr_forward_s": ("nanodrr, image", "C2", "-"),
}

_PANELS = {
    "voxels": ("voxels", lambda n: n**3),
    "pixels": ("pixels", lambda n: n**2),
    "structures": ("structures", lambda n: n),
}


def draw_scaling(found: dict[str, Any], path: Path) -> None:
    """Three panels with logarithmic axes, seconds against voxels, pixels and structures, as PNG."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), sharey=True, layout="constrained")
    for axis, (name, (label, count)) in zip(axes, _PANELS.items(), strict=True):
        for key, (text, colour, style) in _LINES.items():
            points = [(count(row["size"]), row[key]) for row in found[name] if key in row]
            if points:
                axis.loglog(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3, label=text)
        axis.set_xlabel(label)
        axis.grid(True, which="major", linewidth=0.4)
    axes[0].set_ylabel("wall seconds")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
