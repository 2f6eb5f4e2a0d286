"""Rays in the index space of a grid: where they start and end, where they meet the field, how a pose moves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import Camera, Grid
from hierbmd.rigid import Matrix, Vector, invert_rigid, require_rigid, transform_points

FloatArray = NDArray[np.float64]


def index_from_camera(grid: Grid, camera_from_world: Matrix) -> Matrix:
    """The 4x4 from camera mm to voxel indices; NotRigid for a pose that is not rigid or reflects."""
    return np.asarray(grid.index_from_world @ invert_rigid(require_rigid(camera_from_world)))


def camera_rays(index_from_camera: Matrix, camera: Camera) -> tuple[FloatArray, FloatArray]:
    """The source and the step to the detector of each pixel's ray in index space, (H, W, 3) both."""
    source = transform_points(index_from_camera, camera.source_points_mm())
    return source, transform_points(index_from_camera, camera.detector_points_mm()) - source


def field_interval(source: FloatArray, step: FloatArray, shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """Where rays source + t * step (index space, both (..., 3)) are in the field, t in [0, 1], source to detector.

    The field is the zero-padded trilinear interpolation, so it reaches one voxel beyond the outermost centres. A ray
    that misses has its end at or before its start. Shapes (...,), (...,).
    """
    start, end = np.zeros(step.shape[:-1]), np.ones(step.shape[:-1])
    for axis, n in enumerate(shape):
        along = step[..., axis]
        parallel = np.abs(along) < 1e-12
        safe = np.where(parallel, 1.0, along)
        first, last = (-1.0 - source[..., axis]) / safe, (n - source[..., axis]) / safe
        inside = (source[..., axis] > -1.0) & (source[..., axis] < n)
        start = np.where(parallel, np.where(inside, start, 1.0), np.maximum(start, np.minimum(first, last)))
        end = np.where(parallel, np.where(inside, end, 0.0), np.minimum(end, np.maximum(first, last)))
    return start, end


def require_rays_meet(grid: Grid, camera: Camera, camera_from_world: Matrix) -> None:
    """Raise RaysMissVolume when no ray from source to detector meets the field of the grid."""
    source, step = camera_rays(index_from_camera(grid, camera_from_world), camera)
    start, end = field_interval(source, step, grid.shape)
    if not np.any(end > start):
        depth_mm = transform_points(camera_from_world, grid.corners_world_mm)[:, 2]
        where = "the volume is behind the source" if np.all(depth_mm <= 0) else "it lies beside or beyond the detector"
        raise RaysMissVolume(f"rays miss the volume ({where})", mend="check the pose, view and isocentre")


def twist_jacobian(
    by_source: FloatArray, by_detector: FloatArray, ends_mm: tuple[FloatArray, FloatArray], pivot_mm: Vector
) -> FloatArray:
    """The derivative by the twist of `rigid.moved` from those by a ray's two ends in camera mm, (..., 6).

    `by_source` and `by_detector` (..., 3) are the derivatives by the ends' places *relative to the patient*: moving the
    patient by dX moves the ends by -dX, so the sign is turned here. `ends_mm`, the source and the detector points
    (..., 3), and `pivot_mm` (3,) are camera mm. With dX = w x (X - c) + t, g . dX = w . ((X - c) x g) + t . g.
    """
    rotation = np.cross(ends_mm[0] - pivot_mm, by_source) + np.cross(ends_mm[1] - pivot_mm, by_detector)
    return -np.concatenate([rotation, by_source + by_detector], axis=-1)
