"""Rays in the index space of a grid: where they start and end, where they meet the field, how a pose moves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import Camera, Grid, Matrix, Vector, invert_rigid, require_rigid, transform_points

FloatArray = NDArray[np.float64]


def index_from_camera(grid: Grid, camera_from_world: Matrix) -> Matrix:
    """The 4x4 from camera mm to voxel indices; NotRigid for a pose that is not rigid or reflects."""
    return np.asarray(grid.index_from_world @ invert_rigid(require_rigid(camera_from_world)))


def field_interval(source: FloatArray, step: FloatArray, shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """Where rays source + t * step (index space, (..., 3)) are in the field, t in [0, 1] from source to detector.

    The field is the zero-padded trilinear interpolation, so it reaches one voxel beyond the outermost centres. A ray
    that misses has its end at or before its start. Shapes (...,), (...,).
    """
    start, end = np.zeros(step.shape[:-1]), np.ones(step.shape[:-1])
    for axis, n in enumerate(shape):
        along = step[..., axis]
        parallel = np.abs(along) < 1e-12
        safe = np.where(parallel, 1.0, along)
        first, last = (-1.0 - source[axis]) / safe, (n - source[axis]) / safe
        inside = -1.0 < source[axis] < n
        start = np.where(parallel, start if inside else 1.0, np.maximum(start, np.minimum(first, last)))
        end = np.where(parallel, end if inside else 0.0, np.minimum(end, np.maximum(first, last)))
    return start, end


def require_rays_meet(grid: Grid, camera: Camera, camera_from_world: Matrix) -> None:
    """Raise RaysMissVolume when no ray from source to detector meets the field of the grid."""
    matrix = index_from_camera(grid, camera_from_world)
    detector = transform_points(matrix, camera.detector_points_mm())
    start, end = field_interval(matrix[:3, 3], detector - matrix[:3, 3], grid.shape)
    if not np.any(end > start):
        depth_mm = transform_points(camera_from_world, grid.corners_world_mm)[:, 2]
        where = "the volume is behind the source" if np.all(depth_mm <= 0) else "it lies beside or beyond the detector"
        raise RaysMissVolume(f"rays miss the volume ({where})", mend="check the pose, view and isocentre")


def twist_jacobian(
    by_source: FloatArray, by_detector: FloatArray, detector_mm: FloatArray, pivot_mm: Vector
) -> FloatArray:
    """The derivative by the twist of `geometry.moved` from those by a ray's two ends in camera mm, (..., 6).

    `by_source` and `by_detector` (..., 3) are the derivatives by the ends' places *relative to the patient*: moving the
    patient by dX moves the ends by -dX, so the sign is turned here. `detector_mm` (..., 3) and `pivot_mm` (3,) are
    camera mm. With dX = w x (X - c) + t, g . dX = w . ((X - c) x g) + t . g.
    """
    rotation = np.cross(-pivot_mm, by_source) + np.cross(detector_mm - pivot_mm, by_detector)
    return -np.concatenate([rotation, by_source + by_detector], axis=-1)
