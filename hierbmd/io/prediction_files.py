"""The files of one prediction: prediction.json, density.mha and density.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import RESEARCH_USE_ONLY, DensityMap
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.image import write_mha_image

RESULT_FILE = "prediction.json"


def write_prediction(
    folder: str | Path,
    result: Mapping[str, Any],
    density: DensityMap | None,
    *,
    radiograph: NDArray[np.float32],
    title: str,
) -> None:
    """Write a prediction: the density image in g/cm2, a picture of it beside its half radiograph, and the result last.

    `density` and `radiograph` (H, W) are in the look of the whole radiograph. A model without a density image leaves
    the result alone, and takes away what another left in the folder.
    """
    folder = Path(folder)
    if density is None:
        for name in ("density.mha", "density.png"):
            (folder / name).unlink(missing_ok=True)
        write_json(folder / RESULT_FILE, dict(result))
        return
    metadata = {
        "quantity": "areal bone mineral density, predicted",
        "unit": "g/cm2",
        "material": density.material.value,
        "region": density.region,
        "note": RESEARCH_USE_ONLY,
    }
    write_mha_image(folder / "density.mha", density.areal_g_cm2, pixel_mm=density.pixel_mm, metadata=metadata)
    draw_density(folder / "density.png", density, radiograph=radiograph, title=title)
    write_json(folder / RESULT_FILE, dict(result))


def draw_density(path: Path, density: DensityMap, *, radiograph: NDArray[np.float32], title: str) -> None:
    """Draw a density image with its colour bar in g/cm2 beside the half radiograph that it was read from."""
    from matplotlib.figure import Figure

    height, width = radiograph.shape
    aspect = density.pixel_mm[1] / density.pixel_mm[0]
    figure = Figure(figsize=(7.0, max(3.0, 3.0 * aspect * height / width + 0.8)), layout="constrained")
    left, right = figure.subplots(1, 2)
    low, high = np.percentile(radiograph, [1.0, 99.5])
    left.imshow(radiograph, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
    top = max(float(density.areal_g_cm2.max()), 0.1)
    shown = right.imshow(density.areal_g_cm2, cmap="inferno", vmin=0.0, vmax=top, aspect=aspect)
    for axis in (left, right):
        axis.set_axis_off()
    left.set_title("radiograph", fontsize=9)
    right.set_title(f"{density.region.replace('_', ' ')}, predicted", fontsize=9)
    figure.colorbar(shown, ax=right, label=f"areal density, g/cm2 ({density.material})")
    figure.suptitle(f"{title}\n{RESEARCH_USE_ONLY}", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
