"""A CT as a stack of slices whatever order its file keeps: columns to the left, rows to the back, slices upward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix

Voxel = TypeVar("Voxel", bound=np.generic)

_LEAST_PADDING_HU = -1000.0


@dataclass(frozen=True)
class Slices:
    """Views of a volume: `values` (nx, ny, nz) in HU, `spacing_mm` (3,); nothing is copied.

    A point of the stack has millimetres (u, v, w) = index * spacing; `world_from_stack` is the rigid 4x4 to LPS mm.
    `in_field` (nx, ny) is False where the scanner reconstructed nothing: one padding value through all slices.
    """

    values: NDArray[np.float32]
    spacing_mm: NDArray[np.float64]
    world_from_stack: Matrix
    in_field: NDArray[np.bool_]

    @property
    def w_mm(self) -> NDArray[np.float64]:
        """The places of the slices, (nz,), mm."""
        return np.asarray(self.spacing_mm[2] * np.arange(self.values.shape[2]))

    def mean(self, first: int, last: int) -> NDArray[np.float32]:
        """The mean of the slices first..last-1, (nx, ny)."""
        return np.asarray(self.values[:, :, first:last].mean(axis=2, dtype=np.float32))

    def box(self, centre_mm: NDArray[np.float64], reach_mm: float) -> tuple[slice, slice] | None:
        """The pixels within a square about (u, v), None where it leaves the image."""
        pixel = self.spacing_mm[:2]
        low = np.floor((centre_mm - reach_mm) / pixel).astype(int)
        high = np.ceil((centre_mm + reach_mm) / pixel).astype(int) + 1
        if np.any(low < 0) or np.any(high > self.values.shape[:2]):
            return None
        return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))

    def distance_mm(self, box: tuple[slice, slice], centre_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance of each pixel of a box to (u, v), mm."""
        u = self.spacing_mm[0] * np.arange(box[0].start, box[0].stop) - centre_mm[0]
        v = self.spacing_mm[1] * np.arange(box[1].start, box[1].stop) - centre_mm[1]
        return np.asarray(np.hypot(u[:, None], v[None, :]))


def slices_of(volume: Volume) -> Slices:
    """The slices of a CT: its index axes in the order and direction nearest to left, back and up."""
    matrix = volume.grid.world_from_index
    directions, order, signs = _order(volume.grid)
    values = in_stack_order(volume.values, volume.grid)
    origin = matrix[:3, 3].copy()
    for axis in range(3):
        if signs[axis] < 0:
            origin += matrix[:3, order[axis]] * (values.shape[axis] - 1)
    world_from_stack = np.eye(4)
    world_from_stack[:3, :3] = directions[:, order] * signs
    world_from_stack[:3, 3] = origin
    return Slices(values, volume.grid.spacing_mm[order], world_from_stack, _in_field(values))


def in_stack_order(values: NDArray[Voxel], grid: Grid) -> NDArray[Voxel]:
    """A view of an array (ni, nj, nk) on a grid in the order of that grid's slices, (nx, ny, nz)."""
    _, order, signs = _order(grid)
    return np.transpose(values, order)[tuple(slice(None, None, int(sign)) for sign in signs)]


def _order(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """The index axes' unit vectors in columns, which of them goes left, back and up, and each one's sign."""
    directions = grid.world_from_index[:3, :3] / grid.spacing_mm
    _, order = linear_sum_assignment(-np.abs(directions))
    return directions, order, np.sign(directions[np.arange(3), order])


def _in_field(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    if values.shape[2] < 3:
        return np.ones(values.shape[:2], dtype=bool)
    highest = values.max(axis=2)
    suspect = highest <= _LEAST_PADDING_HU
    suspect[suspect] = values[suspect].min(axis=1) == highest[suspect]
    return ~suspect
