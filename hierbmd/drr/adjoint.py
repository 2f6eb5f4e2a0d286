"""The exact transpose of the CPU projector in the volume: the gradient of a loss on images, or backprojection."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from hierbmd.drr.kernel_adjoint import spread
from hierbmd.drr.kernel_aim import aim
from hierbmd.drr.kernel_types import SUMS, Field, Rays, View
from hierbmd.drr.pack import pack
from hierbmd.drr.pool import pool
from hierbmd.drr.rays import index_from_camera, require_rays_meet
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid
from hierbmd.rigid import Matrix

_LINES = 64
_LINES_PER_TASK = 8
_PLANES_PER_TASK = 16
_NO_LABELS = np.zeros((0, 0, 0), np.uint8)


def backproject(
    images: NDArray[np.float32],
    grid: Grid,
    camera: Camera,
    camera_from_world: Matrix,
    *,
    channels: NDArray[np.uint8] | None = None,
    into: NDArray[np.float32] | None = None,
    threads: int = 0,
) -> NDArray[np.float32]:
    """The volume (ni, nj, nk) A^T images, where A takes a volume's values to `CpuProjector.image` (S, H, W).

    A is linear: each pixel is a sum of taps, and each tap's voxel gets the pixel's value times the tap's weight, in mm.
    `channels` (ni, nj, nk) uint8 are the voxels' structures as in `Scene`, and needed where S > 1; background gets
    nothing. With `into`, a float32 volume, the result is added to it and no memory is taken: the sum over many poses.
    The result does not depend on the number of threads. Raises RaysMissVolume, NotRigid.
    """
    _require_shapes(images, grid, camera, channels)
    if into is not None and (into.dtype != np.float32 or into.shape != grid.shape):
        raise ValueError(f"into is {into.dtype} {into.shape}, not float32 {grid.shape}")
    out = np.zeros(grid.shape, np.float32) if into is None else into
    order = _stepping_order(grid)
    view, field = _view(grid, order, camera, camera_from_world), _field(grid, order)
    volume = np.transpose(out, order)
    labels = _NO_LABELS if channels is None else np.transpose(channels, order)
    threads = threads or int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    met = False
    for first in range(0, camera.size_px[1], _LINES):
        rays = _aimed(field, view, (first, min(_LINES, camera.size_px[1] - first)), threads)
        met |= bool(np.any(rays.planes[..., 0] <= rays.planes[..., 1]))
        weights = _weights(images, camera, rays, first)
        for c in range(3):
            if np.any(rays.axis == c):
                turned = (c, (c + 1) % 3, (c + 2) % 3)
                parts = (np.transpose(labels, turned), np.transpose(volume, turned))
                _spread(rays, c, weights, parts, threads)
    if not met:
        require_rays_meet(grid, camera, camera_from_world)
    return out


def _require_shapes(
    images: NDArray[np.float32], grid: Grid, camera: Camera, channels: NDArray[np.uint8] | None
) -> None:
    width, height = camera.size_px
    if images.ndim != 3 or images.shape[1:] != (height, width):
        raise ValueError(f"images {images.shape} are not (S, {height}, {width})")
    if channels is None and len(images) != 1:
        raise ValueError(f"{len(images)} structures need channels")
    if channels is not None and channels.shape != grid.shape:
        raise ValueError(f"channels {channels.shape} do not fit the grid {grid.shape}")
    if channels is not None and channels.max(initial=0) > len(images):
        raise ValueError(f"channels name structure {channels.max()} of {len(images)}")


def _stepping_order(grid: Grid) -> tuple[int, int, int]:
    """The order of the index axes in which the projector steps: it decides between axes that are equally steep."""
    one = Scene(
        np.ones((1, 1, 1), np.float32),
        Grid((1, 1, 1), grid.world_from_index),
        None,
        ("all",),
        Quantity.THICKNESS,
        "mm",
    )
    first, second, third = (int(axis) for axis in np.argmax(pack(one)[0].from_index[:3, :3], axis=1))
    return first, second, third


def _field(grid: Grid, order: tuple[int, int, int]) -> Field:
    """The grid as `aim` wants it: it asks for the shape only."""
    shape = np.array([grid.shape[axis] for axis in order], dtype=np.int64)
    return Field(
        np.zeros(1, np.float32),
        np.zeros(1, np.uint8),
        shape,
        np.ones(3, np.int64),
        0,
        np.zeros((3, 1, 1, 2), np.float32),
        np.zeros((3, 0, 0, 0), np.uint8),
    )


def _view(grid: Grid, order: tuple[int, int, int], camera: Camera, camera_from_world: Matrix) -> View:
    matrix = index_from_camera(grid, camera_from_world)[[*order, 3]]
    points = camera.detector_points_mm()
    moves = (float(not camera.beam.fans[0]), float(not camera.beam.fans[1]))
    x_mm, y_mm = points[0, :, 0].copy(), points[:, 0, 1].copy()
    return View(matrix, x_mm, y_mm, camera.sdd_mm, moves, np.zeros(3), False, False)


def _aimed(field: Field, view: View, lines: tuple[int, int], threads: int) -> Rays:
    """The rays of some rows of the detector, (first, count)."""
    first, count = lines
    shape = (count, view.x_mm.size)
    rays = Rays(
        axis=np.empty(shape, np.int64),
        line=np.empty((*shape, 6)),
        planes=np.empty((*shape, 4), np.int64),
        source=np.empty((*shape, 3)),
        step=np.empty((*shape, 3)),
        sums=np.empty((count, 0, SUMS, view.x_mm.size), np.float32),
        met=np.empty((count, 0, 0), np.uint8),
    )

    def aim_some(start: int) -> None:
        some = Rays(*(part[start : start + _LINES_PER_TASK] for part in rays))
        aim(field, view, first + start, len(some.axis), some)

    list(pool(threads).map(aim_some, range(0, count, _LINES_PER_TASK)))
    return rays


def _weights(images: NDArray[np.float32], camera: Camera, rays: Rays, first: int) -> NDArray[np.float32]:
    """Each pixel times the mm of ray in a plane, (R, N, S)."""
    rows = slice(first, first + len(rays.axis))
    step = np.take_along_axis(rays.step, rays.axis[..., None], axis=-1)
    mm_per_plane = camera.ray_lengths_mm()[rows, :, None] / np.abs(step)
    return np.ascontiguousarray(np.moveaxis(images[:, rows], 0, -1) * mm_per_plane, dtype=np.float32)


def _spread(
    rays: Rays,
    c: int,
    weights: NDArray[np.float32],
    parts: tuple[NDArray[np.uint8], NDArray[np.float32]],
    threads: int,
) -> None:
    """Hand the rays that step along c back to the volume; parts = (labels, volume), planes of c first."""
    labels, volume = parts
    last = len(volume) - 1

    def spread_some(start: int) -> None:
        spread(rays, c, (start, min(last, start + _PLANES_PER_TASK - 1)), weights, labels, volume)

    list(pool(threads).map(spread_some, range(0, last + 1, _PLANES_PER_TASK)))
