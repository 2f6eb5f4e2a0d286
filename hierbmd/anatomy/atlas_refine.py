"""Warped labels brought to the bone's own edge on the CT, neighbouring bones kept apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import Mask, box_of, largest_part
from hierbmd.geometry import Grid

EDGE_HU, MUSCLE_HU = 150.0, 50.0
"""The least that is bone: half way between muscle and a partial-volume cortex of 250 HU."""

MOST_EDGE_HU = 500.0
"""Beside a thick cortex its neighbour may be thin: no more than this is asked of what lies outside a label."""

FINE_MM = 1.5
"""Voxels coarser than this blur a thin cortex below the threshold: labels are left as they were carried."""

_REACH_MM, _CORE_MM, _CLOSE_MM, _LOCAL_MM = 2.5, 4.0, 2.0, 3.0


def refined(hu: NDArray[np.float32], distances_mm: NDArray[np.float32], grid: Grid) -> NDArray[np.uint8]:
    """Which bone each voxel belongs to, (ni, nj, nk), n for the n-th from 1, from signed distances (n, ni, nj, nk).

    Negative distances are inside a warped label. A voxel belongs to the bone whose label is nearest: within 2.5 mm of
    it if it is bright or enclosed by such voxels, and in any case 4 mm inside it. Each bone stays one part. Bright is
    150 HU in the label; outside it half way from muscle to the brightest of the label within 3 mm, for a scanner blurs
    an edge to both sides of it, and 150 HU around a dense cortex is a millimetre too far out.
    """
    nearest = np.argmin(distances_mm, axis=0)
    answer = np.zeros(hu.shape, dtype=np.uint8)
    for number, distance in enumerate(distances_mm):
        mine = nearest == number
        shell = mine & (distance < _REACH_MM)
        inside = mine & (distance < 0.0)
        shell &= hu > np.where(inside, np.float32(EDGE_HU), _edge_hu(hu, inside, grid))
        core = mine & (distance < -_CORE_MM)
        if (shell | core).any():
            box = box_of(shell | core, margin=round(2.0 * _CLOSE_MM / float(grid.spacing_mm.min())))
            kept = _enclosed((shell | core)[box], inside[box], grid)
            answer[box][largest_part(kept)] = number + 1
    return answer


def _edge_hu(hu: NDArray[np.float32], label: Mask, grid: Grid) -> NDArray[np.float32]:
    """Half way from muscle to the brightest of a label within 3 mm, voxel by voxel, within limits."""
    size = 2 * np.round(_LOCAL_MM / grid.spacing_mm).astype(int) + 1
    brightest = ndimage.maximum_filter(np.where(label, hu, np.float32(MUSCLE_HU)), size=tuple(size))
    return np.clip(0.5 * (brightest + MUSCLE_HU), EDGE_HU, MOST_EDGE_HU)


def _enclosed(bone: Mask, label: Mask, grid: Grid) -> Mask:
    """Bone, and what of the warped label its closed shell encloses: marrow."""
    outside = ndimage.distance_transform_edt(~bone, sampling=grid.spacing_mm)
    closed = ndimage.distance_transform_edt(np.pad(outside <= _CLOSE_MM, 1), sampling=grid.spacing_mm)
    shell = closed[1:-1, 1:-1, 1:-1] > _CLOSE_MM
    filled = np.stack([ndimage.binary_fill_holes(level) for level in np.moveaxis(shell | bone, 2, 0)], axis=2)
    return np.asarray(bone | (filled & label))
