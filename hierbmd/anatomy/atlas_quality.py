"""How well one carried label lies on bone, by what the target CT itself shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import Mask, box_of, subgrid
from hierbmd.geometry import Grid

BONE_HU = 200.0
_STEP_MM = 3.0
_REACH_MM, _ALONG_MM = 8.0, 0.5
_LEAST_FALL_HU = 100.0
_FREE_MM = 5.0
_NEAR_MM = 6.0
_MOST_POINTS = 4000
_LEAST_END_MM2 = 100.0


@dataclass(frozen=True)
class Carried:
    """A carried label on a box of the target: HU, the labels (n for the n-th bone), signed distances before refinement.

    All are (ni, nj, nk) on `grid`, with the bones first in `distances_mm` and `seen`: where an atlas's scan shows the
    place.
    """

    hu: NDArray[np.float32]
    parts: NDArray[np.uint8]
    distances_mm: NDArray[np.float32]
    seen: NDArray[np.bool_]
    grid: Grid


def bone_quality(carried: Carried, number: int) -> dict[str, Any]:
    """What speaks for and against the n-th label, counted from 1; a few plain values.

    `edge_rise_hu`: mean of the 3 mm inside the edge less that of the 3 mm outside. `edge_share`: share of the edge
    where HU fall by 100 or more outwards within 2 mm of it. `edge_offset_mm`: how far the steepest fall is from the
    edge, mean over the edge, 8 mm where there is none; both leave out what faces another label or the end of the
    atlas's scan. `bone_share`: of the label, above 200 HU. `explained`: of what is above 200 HU within 6 mm of it, in a
    label.
    `moved_mm`: how far refinement moved the edge (median). `ends_at_atlas_scan`: cut by the end of the atlas's scan.
    """
    if not np.any(carried.parts == number):
        return {
            "edge_rise_hu": 0.0,
            "edge_share": 0.0,
            "bone_share": 0.0,
            "explained": 0.0,
            "ends_at_atlas_scan": False,
        }
    box = box_of(carried.parts == number, margin=int(np.ceil(10.0 / float(carried.grid.spacing_mm.min()))))
    hu, parts, grid = carried.hu[box], carried.parts[box], subgrid(carried.grid, box)
    mask, seen, distance_mm = parts == number, carried.seen[number - 1][box], carried.distances_mm[number - 1][box]
    outside = ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm)
    inside = ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm)
    inner, outer = mask & (inside <= _STEP_MM), ~mask & (outside <= _STEP_MM)
    edge = mask & ~ndimage.binary_erosion(mask)
    bright = (hu > BONE_HU) & (outside <= _NEAR_MM) & seen & _nearest(carried, number, box)
    share, offset_mm = _edge_by_profile(hu, edge & _free(parts, number, seen, grid), inside - outside, grid)
    at_end = edge & ndimage.binary_dilation(~seen, iterations=2)
    end_mm2 = float(np.count_nonzero(at_end)) * grid.voxel_mm3 / float(grid.spacing_mm.mean())
    return {
        "edge_rise_hu": round(float(hu[inner].mean() - hu[outer].mean()), 1) if outer.any() else 0.0,
        "edge_share": round(share, 4),
        "edge_offset_mm": round(offset_mm, 3),
        "bone_share": round(float(np.mean(hu[mask] > BONE_HU)), 4),
        "explained": round(float(np.mean(parts[bright] > 0)), 4) if bright.any() else 0.0,
        "moved_mm": round(float(np.median(np.abs(distance_mm[edge]))), 2),
        "ends_at_atlas_scan": bool(end_mm2 > _LEAST_END_MM2),
    }


def _nearest(carried: Carried, number: int, box: tuple[slice, slice, slice]) -> Mask:
    return np.asarray(np.argmin(carried.distances_mm[(slice(None), *box)], axis=0) == number - 1)


def _free(parts: NDArray[np.uint8], number: int, seen: Mask, grid: Grid) -> Mask:
    """Where no other label is near and the atlas's scan goes on: there the bone must end in softer tissue."""
    other = ((parts > 0) & (parts != number)) | ~seen
    if not other.any():
        return np.ones(parts.shape, dtype=bool)
    return np.asarray(ndimage.distance_transform_edt(~other, sampling=grid.spacing_mm) > _FREE_MM)


def _edge_by_profile(
    hu: NDArray[np.float32], edge: Mask, depth_mm: NDArray[np.float64], grid: Grid
) -> tuple[float, float]:
    """The share of edge voxels with an edge of HU within 2 mm along the normal, and the mean distance to it, mm."""
    index = np.argwhere(edge).astype(np.float64)
    if not len(index):
        return 0.0, _REACH_MM
    index = index[:: max(1, len(index) // _MOST_POINTS)]
    smooth = ndimage.gaussian_filter(depth_mm, 2.0 / grid.spacing_mm)
    slope = np.stack([ndimage.map_coordinates(axis, index.T, order=1) for axis in np.gradient(smooth)], axis=1)
    # A covector of the index becomes a direction in mm, then a step in index again.
    inwards = slope / grid.spacing_mm
    inwards /= np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1e-9)
    outwards = -inwards / grid.spacing_mm
    # A millimetre more at either end, over which the fall is taken.
    along_mm = np.arange(-_REACH_MM - 1.0, _REACH_MM + 1.0 + _ALONG_MM / 2.0, _ALONG_MM)
    # The edge lies half a voxel outside the outermost voxels' centres.
    start = index + 0.5 * float(grid.spacing_mm.mean()) * outwards
    places = start[:, None, :] + along_mm[None, :, None] * outwards[:, None, :]
    profile = ndimage.map_coordinates(hu, np.moveaxis(places, -1, 0), order=1, mode="nearest")
    beside = round(1.0 / _ALONG_MM)
    steepness = -ndimage.gaussian_filter1d(profile, 1.0 / _ALONG_MM, axis=1, order=1)[:, beside:-beside]
    at = np.argmax(steepness, axis=1)
    offset_mm = np.abs(along_mm[beside:-beside][at])
    fall = (profile[:, : -2 * beside] - profile[:, 2 * beside :])[np.arange(len(at)), at]
    found = fall >= _LEAST_FALL_HU
    return float(np.mean(found & (offset_mm <= 2.0))), float(np.mean(np.where(found, offset_mm, _REACH_MM)))
