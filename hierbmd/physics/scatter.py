"""Scattered radiation: a wide blur of what the patient let through, more where the patient is thicker."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

Kernel = Literal["constant", "transport"]

SPR_PER_CM = 0.18
"""Scatter-to-primary ratio per cm of water of the constant kernel in a large field without grid: 3.6 at 20 cm.

Monte Carlo of water at 80 kVp (`transport.py`) gives 1.7 at 10 cm, 4.4 at 20 and 9 at 30: 0.18 holds for 10-15 cm,
and is low for thicker patients.
"""

_WIDTHS = ((0.55, 32.0), (0.45, 90.0))
"""Weights and standard deviations in mm on the detector of the constant kernel, two Gaussians: about that of 20 cm of
water that lies on the detector, half of it within 60 mm."""

KERNEL_MM = (20.0, 60.0, 130.0)
"""Standard deviations in mm on the detector of the Gaussians of `scatter_kernel.csv`."""


@dataclass(frozen=True)
class Grid:
    """An antiscatter grid by what it passes of primary and scatter, behind 20 cm of water at 80 kVp."""

    primary: float = 0.70
    scatter: float = 0.11


NO_GRID = Grid(1.0, 1.0)

GRIDS: dict[str, Grid] = {
    "8:1 aluminium": Grid(0.69, 0.100),
    "10:1 aluminium": Grid(0.67, 0.071),
    "12:1 aluminium": Grid(0.65, 0.052),
    "13:1 fibre": Grid(0.84, 0.077),
}
"""Linear grids of 40 lines/cm with 0.05 mm of lead (fibre: 44 lines/cm, 0.036 mm), as `transport.through_grid` has
them; their covers, their own scatter and the lead's fluorescence are left out, so real ones pass more scatter. The
default above is the 8:1's."""


def add_scatter(
    primary: Image, water_cm: Image, pixel_mm: tuple[float, float], grid: Grid = NO_GRID, kernel: Kernel = "constant"
) -> Image:
    """Primary plus scatter behind a grid, (H, W), relative to the open beam.

    Each pencil of the primary P sends ratio(T) * P into a kernel, T being its water-equivalent thickness in cm (forward
    model of the kernel-superposition family: Ohnesorge et al., Eur Radiol 1999; Star-Lack et al., SPIE 2009). The field
    ends at the image's border, so scatter falls off there. Computed on blocks of about 6 mm.
    """
    scatter = scatter_image(primary, water_cm, pixel_mm, kernel)
    return np.asarray(grid.primary * primary + grid.scatter * scatter, np.float32)


def scatter_image(primary: Image, water_cm: Image, pixel_mm: tuple[float, float], kernel: Kernel = "constant") -> Image:
    """The scatter alone without a grid, (H, W), relative to the open beam.

    The "constant" kernel has one shape and SPR_PER_CM; "transport" has the amount and shape that photons through so
    much water show, 50 mm before the detector (`recipe_scatter.py`).
    """
    block = max(round(6.0 / min(pixel_mm)), 1)
    height, width = primary.shape
    scatter = np.zeros((-(-height // block), -(-width // block)), dtype=np.float32)
    for source, weight, sigma_mm in _sources(primary, np.maximum(water_cm, 0.0), kernel):
        padded = np.pad(source, ((0, -height % block), (0, -width % block)))
        coarse = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block).mean(axis=(1, 3))
        sigma_px = (sigma_mm / (pixel_mm[1] * block), sigma_mm / (pixel_mm[0] * block))
        scatter += weight * ndimage.gaussian_filter(coarse, sigma_px, mode="constant", truncate=4.0)
    rows = (np.arange(height) - (block - 1) / 2) / block
    columns = (np.arange(width) - (block - 1) / 2) / block
    at = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(scatter, at, order=1, mode="nearest"), dtype=np.float32)


def ratios(water_cm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scatter over primary that each Gaussian of the transport kernel holds behind so much water, (..., 3)."""
    at, table = _kernel_table()
    return np.stack([np.interp(water_cm, at, column) for column in table.T], axis=-1)


def _sources(primary: Image, water_cm: Image, kernel: Kernel) -> list[tuple[Image, float, float]]:
    """What each Gaussian of a kernel is to spread, its weight and its standard deviation in mm."""
    if kernel == "constant":
        source = SPR_PER_CM * water_cm * primary
        return [(source, weight, sigma_mm) for weight, sigma_mm in _WIDTHS]
    sent = ratios(water_cm).astype(np.float32)
    return [(sent[..., n] * primary, 1.0, sigma_mm) for n, sigma_mm in enumerate(KERNEL_MM)]


@cache
def _kernel_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    text = files("hierbmd.physics").joinpath("scatter_kernel.csv").read_text(encoding="utf-8")
    values = np.array(list(csv.reader(text.splitlines()))[1:], dtype=np.float64)
    return np.concatenate([[0.0], values[:, 0]]), np.concatenate([np.zeros((1, values.shape[1] - 1)), values[:, 1:]])
