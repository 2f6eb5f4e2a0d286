"""The files of one prediction: prediction.json, density.mha and density.png."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import RESEARCH_USE_ONLY, DensityMap
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.image import write_mha_image

RESULT_FILE = "prediction.json"


@dataclass(frozen=True)
class PredictionImages:
    """The images of one prediction, (H, W) in the look of the whole radiograph: what was read, and what it gave.

    `density` is None from a model that gives a value alone; `density_sd` is the spread over an ensemble's members.
    """

    radiograph: NDArray[np.float32]
    density: DensityMap | None
    density_sd: DensityMap | None = None


def write_prediction(folder: str | Path, result: Mapping[str, Any], images: PredictionImages, *, title: str) -> None:
    """Write a prediction: the density image in g/cm2, a picture of it beside its half radiograph, and the result last.

    What the model does not give is not written, and taken away where another model left it in the folder.
    """
    folder = Path(folder)
    _write_map(folder / "density.mha", images.density, "areal bone mineral density, predicted")
    _write_map(folder / "density_sd.mha", images.density_sd, "standard deviation of areal density over an ensemble")
    if images.density is None:
        (folder / "density.png").unlink(missing_ok=True)
    else:
        draw_density(folder / "density.png", images.density, radiograph=images.radiograph, title=title)
    write_json(folder / RESULT_FILE, dict(result))


def _write_map(path: Path, image: DensityMap | None, quantity: str) -> None:
    if image is None:
        path.unlink(missing_ok=True)
        return
    metadata = {
        "quantity": quantity,
        "unit": "g/cm2",
        "material": image.material.value,
        "region": image.region,
        "note": RESEARCH_USE_ONLY,
    }
    write_mha_image(path, image.areal_g_cm2, pixel_mm=image.pixel_mm, metadata=metadata)


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
