"""The subcutaneous fat of a CT, grown or thinned by a warp along its own depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.rigid import transform_points
from hierbmd.simulation.deform import Vectors, axial_axis, node_points

MM_PER_KG_M2 = 1.5
"""Subcutaneous fat at trunk and hips for 1 kg/m2 of body-mass index: at 1.62 m that is 2.6 kg, of which about 0.8 is
fat and 0.8 of that subcutaneous, over 1.7 m2 of skin at 0.92 g/cm3; half more there than on the limbs. An estimate of
our own, unverified."""

GROWTH = (0.55, 1.9)
"""The least and the most that a layer is stretched by."""

_STEP_MM = 4.0
_BODY_HU = -300.0
_LEAN_HU = -30.0
_SKIN_MM = 6.0
_LEAST_MM3 = 20_000.0
_REACH_MM = 70.0
_SMOOTH_MM = 8.0
_CLOSING_MM, _CLOSING_VOXELS = 20.0, 8


@dataclass(frozen=True)
class FatLayer:
    """Around the lean body of a CT, on a coarse grid: `outside_mm`, how far out each voxel lies (0 inside), and the
    layer's median thickness under the skin."""

    outside_mm: NDArray[np.float64]
    grid: Grid
    thickness_mm: float

    def stretch(self, bmi_change: float) -> float:
        """The factor on the layer's thickness that a change of body-mass index in kg/m2 asks for, within GROWTH."""
        wanted = (self.thickness_mm + MM_PER_KG_M2 * bmi_change) / max(self.thickness_mm, 1.0)
        return float(np.clip(wanted, *GROWTH))

    def velocity(self, stretch: float, lattice: Grid) -> Vectors:
        """The velocity (mm in unit time) at a lattice's nodes whose backward displacement looks up depth s at
        s / stretch: the layer becomes `stretch` times as thick.

        The lean body stays; skin goes out or in with the layer. Smoothed over 8 mm, so that folds of the skin do not
        tear.
        """
        away_mm = np.log(stretch) * np.minimum(self.outside_mm, _REACH_MM)
        smooth = ndimage.gaussian_filter(self.outside_mm, _SMOOTH_MM / self.grid.spacing_mm)
        by_index = np.stack(np.gradient(smooth, *self.grid.spacing_mm), axis=-1)
        normal = by_index @ (self.grid.world_from_index[:3, :3] / self.grid.spacing_mm).T
        # Shorter than 1 where two normals meet, between the thighs: nothing is pushed there.
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1.0)
        sigma = (*(_SMOOTH_MM / self.grid.spacing_mm), 0.0)
        v = ndimage.gaussian_filter(-normal * away_mm[..., None], sigma, mode="nearest")
        index = transform_points(self.grid.index_from_world, node_points(lattice))
        where = np.moveaxis(index, -1, 0)
        values = [ndimage.map_coordinates(v[..., c], where, order=1, mode="nearest") for c in range(3)]
        return np.stack(values, axis=-1)


def fat_layer(volume: Volume) -> FatLayer:
    """The layer between the lean body and the skin of a CT in HU whose table has been removed.

    Lean is what is above -30 HU deeper than the skin, opened by a voxel of about 4 mm, filled slice by slice.
    """
    stride = np.maximum(np.rint(_STEP_MM / volume.grid.spacing_mm), 1).astype(int)
    coarse = ndimage.uniform_filter(volume.values, size=tuple(stride))[tuple(slice(n // 2, None, n) for n in stride)]
    matrix = np.diag([*stride.astype(float), 1.0])
    matrix[:3, 3] = stride // 2
    shape = coarse.shape
    grid = Grid((shape[0], shape[1], shape[2]), volume.grid.world_from_index @ matrix)
    axial = axial_axis(grid)
    body = _filled(coarse > _BODY_HU, axial)
    depth = ndimage.distance_transform_edt(_continued(body, axial), sampling=grid.spacing_mm)
    depth = depth.take(range(1, shape[axial] + 1), axis=axial)
    # Without this a bone at the CT's end would lie under a skin of its own.
    lean = (coarse > _LEAN_HU) & (depth > _SKIN_MM)
    lean = ndimage.binary_opening(lean, ndimage.generate_binary_structure(3, 1))
    parts, count = ndimage.label(lean)
    sizes = np.bincount(parts.ravel(), minlength=count + 1) * grid.voxel_mm3
    sizes[0] = 0.0
    lean = _without_gaps((sizes > _LEAST_MM3)[parts], grid, axial)
    if not lean.any():
        return FatLayer(np.zeros(shape), grid, 0.0)
    outside = np.asarray(ndimage.distance_transform_edt(~lean, sampling=grid.spacing_mm))
    skin = body & (depth <= 1.5 * float(grid.spacing_mm.max()))
    return FatLayer(outside, grid, float(np.median(outside[skin])))


def _without_gaps(lean: NDArray[np.bool_], grid: Grid, axial: int) -> NDArray[np.bool_]:
    """The lean body with the fat between its muscles and organs: closed by a ball of 20 mm, filled slice by slice."""
    pads = [(_CLOSING_VOXELS, _CLOSING_VOXELS)] * 3
    wide = np.pad(lean, pads)
    wide = np.asarray(ndimage.distance_transform_edt(~wide, sampling=grid.spacing_mm) <= _CLOSING_MM)
    closed = ndimage.distance_transform_edt(wide, sampling=grid.spacing_mm) > _CLOSING_MM
    return _filled(closed[tuple(slice(_CLOSING_VOXELS, -_CLOSING_VOXELS) for _ in range(3))] | lean, axial)


def _continued(body: NDArray[np.bool_], axial: int) -> NDArray[np.bool_]:
    """The body with its first and last slice said twice, and nothing around it: the scan's ends are no skin."""
    pads = [(1, 1) if axis == axial else (0, 0) for axis in range(3)]
    return np.pad(body, pads, mode="edge")


def _filled(mask: NDArray[np.bool_], axial: int) -> NDArray[np.bool_]:
    slices = [ndimage.binary_fill_holes(one) for one in np.moveaxis(mask, axial, 0)]
    return np.moveaxis(np.stack(slices), 0, axial)
