"""The fast projector for CPUs: compiled kernels on the occupied box of the volume, lines of rays shared by threads."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from hierbmd.drr.kernel_aim import aim
from hierbmd.drr.kernel_chain import finish
from hierbmd.drr.kernel_march import march
from hierbmd.drr.kernel_types import BEYOND, SUMS, TILE, Field, Rays, View
from hierbmd.drr.lanes import march_lanes
from hierbmd.drr.pack import Packed, pack
from hierbmd.drr.pool import pool
from hierbmd.drr.rays import index_from_camera, require_rays_meet
from hierbmd.drr.scene import Scene
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix, Vector, transform_points

_LOG = logging.getLogger(__name__)
_LINES_PER_TASK = 8
_NOTABLE_SECONDS = 3.0
_NO_JACOBIAN = np.zeros((0, 0, 0, 6), dtype=np.float32)


@dataclass(frozen=True)
class CpuProjector:
    """Joseph's method in float32 (`kernel_types`); holds a padded copy of the part of the volume that is not zero.

    `threads` is numba's thread count by default (NUMBA_NUM_THREADS, else the CPUs this process may use). Kernels are
    compiled by the first projector on a machine, within some seconds, and cached from then on.
    """

    scene: Scene
    threads: int = 0
    backend: str = "cpu"
    _packed: tuple[Packed, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_packed", pack(self.scene))
        threads = self.threads or int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        object.__setattr__(self, "threads", threads)
        _compile_kernels()

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W) in the scene's unit. Raises RaysMissVolume, NotRigid."""
        return self._project(camera, camera_from_world, None, _NO_JACOBIAN)

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the twist of `rigid.moved` about the pivot."""
        jacobian = self._jacobian(camera)
        pivot_mm = transform_points(camera_from_world, np.asarray(pivot_world_mm, dtype=np.float64))
        return self._project(camera, camera_from_world, pivot_mm, jacobian), jacobian

    def image_and_ends(
        self, camera: Camera, camera_from_world: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 2, 3) by the rays' ends in camera mm."""
        ends = self._jacobian(camera)
        image = self._project(camera, camera_from_world, None, ends)
        return image, ends.reshape(*image.shape, 2, 3)

    def _jacobian(self, camera: Camera) -> NDArray[np.float32]:
        width, height = camera.size_px
        return np.zeros((len(self.scene.structures), height, width, 6), dtype=np.float32)

    def _project(
        self, camera: Camera, camera_from_world: Matrix, pivot_mm: Vector | None, jacobian: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        to_index = index_from_camera(self.scene.grid, camera_from_world)
        width, height = camera.size_px
        image = np.zeros((len(self.scene.structures), height, width), dtype=np.float32)
        tasks = []
        for packed in self._packed:
            view = _view(packed.from_index @ to_index, camera, pivot_mm)
            out = (image[packed.structures], jacobian[packed.structures])
            lines = width if view.by_columns else height
            for first in range(0, lines, _LINES_PER_TASK):
                tasks.append((packed.field, view, (first, min(_LINES_PER_TASK, lines - first)), out))
        if self.threads == 1 or len(tasks) == 1:
            for task in tasks:
                _project_lines(*task)
        else:
            list(pool(self.threads).map(lambda task: _project_lines(*task), tasks))
        if not image.any():
            require_rays_meet(self.scene.grid, camera, camera_from_world)
        return image


def _view(index_from_camera: Matrix, camera: Camera, pivot_mm: Vector | None) -> View:
    du, dv = camera.pixel_mm
    # Neighbours in a line of rays lie along the axis that is contiguous in memory.
    by_columns = bool(abs(index_from_camera[2, 1]) * dv > abs(index_from_camera[2, 0]) * du)
    points = camera.detector_points_mm()
    x_mm, y_mm = points[0, :, 0].copy(), points[:, 0, 1].copy()
    moves = (float(not camera.beam.fans[0]), float(not camera.beam.fans[1]))
    pivot = np.zeros(3) if pivot_mm is None else pivot_mm
    return View(index_from_camera, x_mm, y_mm, camera.sdd_mm, moves, pivot, by_columns, pivot_mm is None)


def _project_lines(
    field: Field, view: View, lines: tuple[int, int], out: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    """Project some lines of rays, (first, count), into out = (image, jacobian)."""
    first, count = lines
    image, jacobian = out
    rays = _rays(count, view.y_mm.size if view.by_columns else view.x_mm.size, image.shape[0])
    aim(field, view, first, count, rays)
    march_lanes(field, count, rays, jacobian.size > 0)
    march(field, count, rays)
    finish(field, view, first, count, rays, image, jacobian)


def _rays(lines: int, length: int, structures: int) -> Rays:
    return Rays(
        axis=np.empty((lines, length), np.int64),
        line=np.empty((lines, length, 6)),
        planes=np.empty((lines, length, 4), np.int64),
        source=np.empty((lines, length, 3)),
        step=np.empty((lines, length, 3)),
        sums=np.zeros((lines, structures, SUMS, length), np.float32),
        met=np.zeros((lines, structures, -(-length // TILE)), np.uint8),
    )


@lru_cache(maxsize=1)
def _compile_kernels() -> None:
    """Have the kernels compiled, or read from numba's cache, before the first image is asked for and timed."""
    start = time.perf_counter()
    camera = Camera(10.0, (2, 2), (0.1, 0.1))
    jacobian = np.empty((2, 2, 2, 6), dtype=np.float32)
    for labels in (np.zeros(BEYOND, np.uint8), np.zeros(125 + BEYOND, np.uint8)):
        field = Field(
            values=np.zeros(125 + BEYOND, np.float32),
            labels=labels,
            shape=np.ones(3, np.int64),
            strides=np.array([25, 5, 1]),
            origin=62,
            filled=np.zeros((3, 1, 1, 2), np.float32),
            names=np.zeros((3, 1, 1, 1), np.uint8),
        )
        out = (np.zeros((2, 2, 2), np.float32), jacobian)
        _project_lines(field, _view(np.eye(4), camera, np.zeros(3)), (0, 2), out)
    seconds = time.perf_counter() - start
    if seconds > _NOTABLE_SECONDS:
        _LOG.info("compiled the projector's kernels in %.0f s; they are kept for the next time", seconds)
