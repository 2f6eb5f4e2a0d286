"""What a CT's voxels are made of: adipose, soft tissue, bone mineral and metal, known at every energy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.physics.attenuation import (
    CT_KEV,
    adipose_per_mm,
    bone_per_mm_per_g_cm3,
    soft_tissue_per_mm,
    titanium_per_mm,
)
from hierbmd.units import MU_WATER_PER_MM

Floats = NDArray[np.float32]

CHANNELS = ("adipose", "soft_tissue", "bone_mineral", "metal")
"""The last axis of `Basis.amounts`: volume shares, but bone mineral in g/cm3 HA on top of soft tissue."""

METAL_HU = 2800.0
"""Above this a voxel is metal: dense cortex ends near 2000 HU and 12-bit CT at 3071."""

_BODY_HU = -300.0


@dataclass(frozen=True)
class Basis:
    """Amounts of the `CHANNELS`, (ni, nj, nk, 4) float32, on `grid`."""

    amounts: Floats
    grid: Grid


@cache
def nodes() -> tuple[float, float, float]:
    """Hounsfield units at CT_KEV of adipose and of soft tissue, and what 1 g/cm3 of bone mineral adds."""
    adipose = 1000.0 * (float(adipose_per_mm(CT_KEV)) / MU_WATER_PER_MM - 1.0)
    soft = 1000.0 * (float(soft_tissue_per_mm(CT_KEV)) / MU_WATER_PER_MM - 1.0)
    return adipose, soft, 1000.0 * float(bone_per_mm_per_g_cm3(CT_KEV)) / MU_WATER_PER_MM


def attenuation_per_mm(energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear attenuation of one unit of each channel, (n, 4), 1/mm."""
    columns = (adipose_per_mm, soft_tissue_per_mm, bone_per_mm_per_g_cm3, titanium_per_mm)
    return np.stack([column(energy_kev) for column in columns], axis=-1)


def decompose(volume: Volume, *, air_hu: float = -1000.0) -> Basis:
    """The materials of a CT in HU, voxel by voxel, so that attenuation at 70 keV is what the Hounsfield scale says.

    Below adipose a voxel is thinned adipose (lung, partial volume with air), between adipose and soft tissue a mix of
    the two, above soft tissue it is soft tissue with bone mineral, above METAL_HU metal whole (its HU are saturated).
    Values at or below `air_hu`, and padding (-1024, -2048), are nothing.
    """
    hu = volume.values
    adipose_hu, soft_hu, per_g_cm3 = nodes()
    amounts = np.empty((*hu.shape, 4), dtype=np.float32)
    share = np.clip((hu - adipose_hu) / (soft_hu - adipose_hu), 0.0, 1.0)
    thinned = np.clip((hu + 1000.0) / (adipose_hu + 1000.0), 0.0, 1.0)
    amounts[..., 0] = (1.0 - share) * thinned
    amounts[..., 1] = share
    amounts[..., 2] = np.maximum(hu - soft_hu, 0.0) / per_g_cm3
    amounts[..., 3] = 0.0
    metal = hu >= METAL_HU
    if metal.any():
        amounts[metal] = (0.0, 0.0, 0.0, 1.0)
    amounts[hu <= air_hu] = 0.0
    return Basis(amounts, volume.grid)


def without_table(volume: Volume) -> Volume:
    """The CT with everything but the patient turned into air: the table, sheets and clothes are no part of a
    radiograph.

    The patient is the largest body of tissue after an opening of about 6 mm, grown back by 10 mm, with its holes filled
    in each slice; thin things that touch the skin fall off with the opening.
    """
    spacing = volume.grid.spacing_mm
    stride = tuple(max(round(3.0 / float(s)), 1) for s in spacing)
    coarse = volume.values[:: stride[0], :: stride[1], :: stride[2]] > _BODY_HU
    ball = ndimage.generate_binary_structure(3, 1)
    padded = np.pad(coarse, 3, mode="edge")
    opened = ndimage.binary_opening(padded, ball, iterations=2)
    parts, count = ndimage.label(opened)
    if count == 0:
        return volume
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    # Grown into tissue only, then by one voxel: the skin comes back, the table behind it does not come with it.
    grown = ndimage.binary_dilation(largest, ball, iterations=3, mask=padded)
    grown = ndimage.binary_dilation(grown, ball)[3:-3, 3:-3, 3:-3]
    axial = int(np.argmax(np.abs(volume.grid.world_from_index[2, :3])))
    filled = np.stack([ndimage.binary_fill_holes(s) for s in np.moveaxis(grown, axial, 0)])
    patient = np.moveaxis(filled, 0, axial)
    for axis, n in enumerate(stride):
        patient = np.repeat(patient, n, axis=axis)
    ni, nj, nk = volume.values.shape
    return Volume(np.where(patient[:ni, :nj, :nk], volume.values, np.float32(-1000.0)), volume.grid, volume.unit)
