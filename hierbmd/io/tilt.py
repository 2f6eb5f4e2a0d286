"""Resampling of a tilted or sheared volume onto axes at right angles, done only on request."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Grid
from hierbmd.rigid import rigid_matrix, transform_points
from hierbmd.units import AIR_HU


def upright_grid(grid: Grid) -> Grid:
    """The orthogonal grid that covers a sheared one: i is kept, j and k are turned to right angles with it."""
    i, j, k = grid.world_from_index[:3, :3].T
    axis_i = i / np.linalg.norm(i)
    axis_j = j - (j @ axis_i) * axis_i
    axis_j /= np.linalg.norm(axis_j)
    axis_k = np.cross(axis_i, axis_j)
    axis_k *= np.sign(axis_k @ k)
    axes = np.stack([axis_i, axis_j, axis_k], axis=1)
    spacing_mm = np.array([i @ axis_i, j @ axis_j, k @ axis_k])
    corners = (grid.corners_world_mm @ axes) / spacing_mm
    low = corners.min(axis=0)
    shape = np.ceil(corners.max(axis=0) - low - 1e-6).astype(int) + 1
    return Grid(
        (int(shape[0]), int(shape[1]), int(shape[2])), rigid_matrix(axes * spacing_mm, axes @ (low * spacing_mm))
    )


def resample_upright(values: NDArray[np.float32], grid: Grid) -> tuple[NDArray[np.float32], Grid]:
    """The volume (ni, nj, nk) in HU on `upright_grid`, trilinear; air outside the old one."""
    from scipy import ndimage

    upright = upright_grid(grid)
    index_from_index = grid.index_from_world @ upright.world_from_index
    resampled = ndimage.affine_transform(
        values,
        index_from_index[:3, :3],
        offset=transform_points(index_from_index, np.zeros(3)),
        output_shape=upright.shape,
        order=1,
        mode="constant",
        cval=AIR_HU,
    )
    return np.asarray(resampled, dtype=np.float32), upright
