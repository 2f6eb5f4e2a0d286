"""The pictures: cost against size, success against the size of the start error, atlas labels' errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

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


Curves = dict[str, list[tuple[float, int, int]]]


def draw_capture(by_image: dict[str, Curves], path: Path) -> None:
    """Success rate against the size of the start error, a panel an image, a line a system, Wilson intervals, as PNG."""
    systems = sorted({system for curves in by_image.values() for system in curves})
    figure, axes = plt.subplots(1, len(by_image), figsize=(13, 4.6), sharey=True, layout="constrained")
    for axis, (image, curves) in zip(axes, by_image.items(), strict=True):
        for system, points in curves.items():
            number = systems.index(system)
            sizes, good, count = np.array(points).T
            rate = good / count
            spread = np.abs(_wilson(good, count) - rate)
            most = f"{count.min():.0f}" if count.min() == count.max() else f"{count.min():.0f} to {count.max():.0f}"
            axis.errorbar(
                sizes + 0.15 * number,
                rate,
                yerr=spread,
                fmt="-o" if system.startswith("hierbmd") else "--s",
                color=f"C{number}",
                markersize=4,
                capsize=2,
                label=f"{system} (n {most})",
            )
        axis.set_title(f"{image} image")
        axis.set_xlabel("start error: s degrees, 2 s mm in plane and 4 s mm in depth together")
        axis.set_ylim(-0.03, 1.05)
        axis.grid(True, linewidth=0.4)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("share within 2 mm in plane")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _wilson(good: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 95 % intervals of shares (2, n), Wilson, J Am Stat Assoc 1927;22:209."""
    z = 1.96
    middle = (good + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * np.sqrt(good * (count - good) / count + z**2 / 4)
    return np.stack([middle - half, middle + half])


def draw_errors(groups: list[Any], line: tuple[float, float], path: Path) -> None:
    """Atlas labels' true errors against their edge offset, mm: (label, colour, marker, offsets, errors) by group."""
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    for label, colour, marker, offset_mm, error_mm in groups:
        axis.scatter(offset_mm, error_mm, s=16, color=colour, marker=marker, alpha=0.7, label=label)
    ends = axis.get_xlim()
    axis.plot(
        ends, [line[1] + line[0] * x for x in ends], "k--", linewidth=0.8, label="least squares, femora and hip bones"
    )
    axis.set_xlabel("edge_offset_mm: from the label's edge to the steepest fall of HU, mean, mm")
    axis.set_ylabel("true mean surface error, mm")
    axis.set_title("Pairs of virtual patients", fontsize=10)
    axis.grid(linewidth=0.4)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)
