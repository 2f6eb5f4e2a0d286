"""What backends that march rays in even steps share: how many samples a ray needs, and where."""

from __future__ import annotations

import numpy as np

from hierbmd.drr.rays import camera_rays, field_interval, index_from_camera, require_rays_meet
from hierbmd.geometry import Camera, Grid
from hierbmd.rigid import Matrix

SAMPLES_PER_VOXEL = 4.0
"""Where a peer's sampling error is below a thousandth of the image."""

CHUNK_SAMPLES = 4_000_000
"""Samples in memory at a time; a peer keeps every one of them."""


def interval_of_all(grid: Grid, camera: Camera, camera_from_world: Matrix) -> tuple[float, float]:
    """From the first to the last t in [0, 1] at which any ray source + t * step is in the field.

    Raises RaysMissVolume, NotRigid.
    """
    start, end, _ = _crossings(grid, camera, camera_from_world)
    met = end > start
    return float(start[met].min()), float(end[met].max())


def samples_between(grid: Grid, camera: Camera, camera_from_world: Matrix, between: tuple[float, float]) -> int:
    """How many samples the longest ray takes between two t, at SAMPLES_PER_VOXEL along its steps in index space."""
    _, _, lengths = _crossings(grid, camera, camera_from_world)
    return int(np.ceil(SAMPLES_PER_VOXEL * lengths.max() * (between[1] - between[0]))) + 2


def samples_of_longest(grid: Grid, camera: Camera, camera_from_world: Matrix) -> int:
    """How many samples the ray that is longest within the field takes, each ray marched from where it meets the field.

    Raises RaysMissVolume, NotRigid.
    """
    start, end, lengths = _crossings(grid, camera, camera_from_world)
    return int(np.ceil(SAMPLES_PER_VOXEL * (lengths * np.maximum(end - start, 0)).max())) + 2


def _crossings(grid: Grid, camera: Camera, camera_from_world: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Each ray's start and end in the field, as t, and its length in voxels, (H, W) each."""
    require_rays_meet(grid, camera, camera_from_world)
    source, step = camera_rays(index_from_camera(grid, camera_from_world), camera)
    start, end = field_interval(source, step, grid.shape)
    return start, end, np.asarray(np.linalg.norm(step, axis=-1))
