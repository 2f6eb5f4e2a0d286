"""Scattered radiation: a wide blur of what the patient let through, more where the patient is thicker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

SPR_PER_CM = 0.18
"""Scatter-to-primary ratio per cm of water in a large field without grid or gap: about 3.6 at 20 cm.

Measured values for 30 x 30 cm fields near 80 kVp are 3 to 4.5 at 20 cm, scatter fractions of 0.75 to 0.82 (Chan & Doi,
Med Phys 1983; Boone & Seibert, Med Phys 1988; digits unverified).
"""

_WIDTHS = ((0.55, 32.0), (0.45, 90.0))
"""Weights and standard deviations in mm on the detector of the point-scatter kernel, two Gaussians."""


@dataclass(frozen=True)
class Grid:
    """An antiscatter grid by what it passes of primary and scatter: 12:1, 40 lines/cm about 0.70 and 0.11."""

    primary: float = 0.70
    scatter: float = 0.11


NO_GRID = Grid(1.0, 1.0)


def add_scatter(primary: Image, water_cm: Image, pixel_mm: tuple[float, float], grid: Grid = NO_GRID) -> Image:
    """Primary plus scatter behind a grid, (H, W), relative to the open beam.

    Each pencil of the primary P sends SPR_PER_CM * T * P into a kernel of two Gaussians, T being its water-equivalent
    thickness in cm (forward model of the kernel-superposition family: Ohnesorge et al., Eur Radiol 1999; Star-Lack et
    al., SPIE 2009). The field ends at the image's border, so scatter falls off there. Computed on blocks of about 6 mm.
    """
    return np.asarray(grid.primary * primary + grid.scatter * scatter_image(primary, water_cm, pixel_mm), np.float32)


def scatter_image(primary: Image, water_cm: Image, pixel_mm: tuple[float, float]) -> Image:
    """The scatter alone without a grid, (H, W), relative to the open beam."""
    source = SPR_PER_CM * np.maximum(water_cm, 0.0) * primary
    block = max(round(6.0 / min(pixel_mm)), 1)
    height, width = source.shape
    padded = np.pad(source, ((0, -height % block), (0, -width % block)))
    coarse = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block).mean(axis=(1, 3))
    scatter = np.zeros_like(coarse)
    for weight, sigma_mm in _WIDTHS:
        sigma_px = (sigma_mm / (pixel_mm[1] * block), sigma_mm / (pixel_mm[0] * block))
        scatter += weight * ndimage.gaussian_filter(coarse, sigma_px, mode="constant", truncate=4.0)
    rows = (np.arange(height) - (block - 1) / 2) / block
    columns = (np.arange(width) - (block - 1) / 2) / block
    at = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(scatter, at, order=1, mode="nearest"), dtype=np.float32)
