"""What a patient lies on in the scanner: how deep the back reaches, and the table's curved top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import Volume
from hierbmd.simulation.ct_sampling import Lattice
from hierbmd.simulation.shares import along_normal, slab_share

Floats = NDArray[np.float64]

BODY_HU = -300.0
"""Above this a voxel of a patient's CT is tissue."""

_RADIUS_MM, _HALF_WIDTH_MM, _HEIGHT_MM, _SKIN_MM = 550.0, 215.0, 25.0, 1.5
_SKIN_HU, _CORE_HU = 30.0, -930.0
"""A carbon-fibre shell over foam, of the shape and the values of the table in the real pelvis CT (read off)."""


@dataclass(frozen=True)
class Back:
    """The patient's lowest points, `y_mm` (nx, nz) at the columns `x_mm` and slices `z_mm`; -inf where nobody is."""

    x_mm: Floats
    z_mm: Floats
    y_mm: Floats

    def lowest_mm(self, x_range_mm: tuple[float, float], z_range_mm: tuple[float, float]) -> float:
        """The lowest point (largest y) over a rectangle of the table, LPS mm; -inf where nobody lies."""
        across = (self.x_mm >= x_range_mm[0]) & (self.x_mm <= x_range_mm[1])
        along = (self.z_mm >= z_range_mm[0]) & (self.z_mm <= z_range_mm[1])
        return float(np.max(self.y_mm[np.ix_(across, along)], initial=-np.inf))


def back_of(body: Volume) -> Back:
    """The back of a patient in an upright volume in HU."""
    origin, step = body.grid.world_from_index[:3, 3], body.grid.spacing_mm
    x_mm, y_mm, z_mm = (origin[n] + step[n] * np.arange(body.grid.shape[n]) for n in range(3))
    tissue = body.values > BODY_HU
    last = tissue.shape[1] - 1 - np.argmax(tissue[:, ::-1], axis=1)
    return Back(x_mm, z_mm, np.where(tissue.any(axis=1), y_mm[last] + step[1] / 2.0, -np.inf))


def sagitta_mm(x_mm: Floats) -> Floats:
    """How much higher the table's top is beside its middle, mm."""
    return np.asarray(_RADIUS_MM - np.sqrt(_RADIUS_MM**2 - np.minimum(np.abs(x_mm), _HALF_WIDTH_MM) ** 2))


def table_top_mm(back: Back, middle_mm: float, gap_mm: float) -> float:
    """The y of the lowest line of the table's top, so that the patient clears it by the gap, LPS mm."""
    return float(np.max(back.y_mm.max(axis=1) + sagitta_mm(back.x_mm - middle_mm))) + gap_mm


def table_shares(lattice: Lattice, middle_mm: float, top_mm: float) -> tuple[Floats, Floats]:
    """The table's share of each pixel and share times HU, (nx, ny) each; it is the same in every slice."""
    x, y = np.meshgrid(lattice.x_mm - middle_mm, lattice.y_mm - (top_mm - _RADIUS_MM), indexing="ij")
    radius = np.hypot(x, y)
    widths = lattice.pixel_mm * np.abs(np.stack([x, y], axis=-1)) / np.maximum(radius, 1.0)[..., None]
    edges_mm = (0.0, _SKIN_MM, _HEIGHT_MM - _SKIN_MM, _HEIGHT_MM)
    beyond = [along_normal(radius - _RADIUS_MM - edge, widths) for edge in edges_mm]
    there = slab_share(x, _HALF_WIDTH_MM, np.array([lattice.pixel_mm, 0.0])) * (y > 0)
    core = there * (beyond[1] - beyond[2])
    share = there * (beyond[0] - beyond[3])
    return share, share * _SKIN_HU + core * (_CORE_HU - _SKIN_HU)
