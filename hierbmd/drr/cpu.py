"""The fast projector for CPUs: numba kernels on the occupied box of the volume, rows shared between threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from hierbmd.drr import joseph
from hierbmd.drr.rays import index_from_camera, require_rays_meet
from hierbmd.drr.scene import Scene
from hierbmd.geometry import Camera, Matrix, Vector, transform_points

_ROWS_PER_TASK = 8
_NO_JACOBIAN = np.zeros((0, 0, 0, 6), dtype=np.float32)


@dataclass(frozen=True)
class CpuProjector:
    """Joseph's method in float32 (hierbmd.drr.joseph); holds a padded copy of the part that is not zero.

    `threads` is numba's thread count by default (NUMBA_NUM_THREADS, else the CPUs this process may use).
    """

    scene: Scene
    threads: int = 0
    backend: str = "cpu"
    _field: joseph.Field = field(init=False, repr=False)
    _first_voxel: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        packed, first = _pack(self.scene)
        object.__setattr__(self, "_field", packed)
        object.__setattr__(self, "_first_voxel", first)
        threads = self.threads or int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        object.__setattr__(self, "threads", threads)

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W) in the scene's unit. Raises RaysMissVolume, NotRigid."""
        return self._project(camera, camera_from_world, np.zeros(3), _NO_JACOBIAN)

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the twist of `geometry.moved` about the pivot."""
        width, height = camera.size_px
        jacobian = np.empty((len(self.scene.structures), height, width, 6), dtype=np.float32)
        pivot_mm = transform_points(camera_from_world, np.asarray(pivot_world_mm, dtype=np.float64))
        return self._project(camera, camera_from_world, pivot_mm, jacobian), jacobian

    def _project(
        self, camera: Camera, camera_from_world: Matrix, pivot_mm: Vector, jacobian: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        matrix = index_from_camera(self.scene.grid, camera_from_world)
        matrix[:3, 3] -= self._first_voxel
        width, height = camera.size_px
        points = camera.detector_points_mm()
        view = joseph.View(matrix, points[0, :, 0].copy(), points[:, 0, 1].copy(), camera.sdd_mm, pivot_mm)
        image = np.empty((len(self.scene.structures), height, width), dtype=np.float32)
        starts = range(0, height, _ROWS_PER_TASK)

        def work(start: int) -> None:
            rows = (start, min(start + _ROWS_PER_TASK, height))
            joseph.project_rows(self._field, view, rows, image, jacobian)

        if self.threads == 1 or len(starts) == 1:
            for start in starts:
                work(start)
        else:
            list(_pool(self.threads).map(work, starts))
        if not image.any():
            require_rays_meet(self.scene.grid, camera, camera_from_world)
        return image


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    # The kernels release the interpreter; threads of our own work below forked data loaders and in several callers at
    # once, where numba's own layers abort the process.
    return ThreadPoolExecutor(threads, thread_name_prefix="hierbmd-drr")


def _pack(scene: Scene) -> tuple[joseph.Field, NDArray[np.intp]]:
    """The padded field of the box that holds all voxels above or below zero, and the box's first voxel."""
    filled = scene.values != 0
    if scene.channels is not None:
        filled &= scene.channels > 0
    first, last = _box(filled)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    several = len(scene.structures) > 1
    values = np.where(filled[box], scene.values[box], np.float32(0))
    padded = np.ascontiguousarray(np.pad(values, joseph.PAD), dtype=np.float32)
    labels = np.zeros(1, dtype=np.uint8)
    if several and scene.channels is not None:
        labels = np.pad(scene.channels[box], joseph.PAD).ravel()
    strides = np.array(padded.strides, dtype=np.int64) // padded.itemsize
    shape = np.array(values.shape, dtype=np.int64)
    return joseph.Field(padded.ravel(), labels, shape, strides, int(joseph.PAD * strides.sum())), first


def _box(filled: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first voxel and one past the last of the smallest box around the true ones; of an empty mask, voxel 0's."""
    first, last = [], []
    for axis in range(3):
        along = np.flatnonzero(np.any(filled, axis=tuple(i for i in range(3) if i != axis)))
        first.append(along[0] if along.size else 0)
        last.append(along[-1] + 1 if along.size else 1)
    return np.array(first, dtype=np.intp), np.array(last, dtype=np.intp)
