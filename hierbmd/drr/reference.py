"""The slow, readable, float64 projector that the fast ones are held to: the exact integral of the trilinear field."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.drr.rays import (
    FloatArray,
    camera_rays,
    field_interval,
    index_from_camera,
    require_rays_meet,
    twist_jacobian,
)
from hierbmd.drr.scene import Scene
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix, Vector, transform_points

_CHUNK_SAMPLES = 2_000_000


@dataclass(frozen=True)
class ReferenceProjector:
    """Cuts every ray where it crosses a plane of voxel centres and integrates each piece exactly, in float64.

    Between such planes the field along a ray is a cubic polynomial, and so is its gradient times the sample's motion:
    two Gauss-Legendre points a piece integrate both without error. An image is L * integral over t in [0, 1] of
    field(source + t * (detector - source)), with L the ray's length in mm; its derivative by the pose is the same
    integral of the field's gradient times (1 - t) of the source's motion and t of the detector pixel's.
    """

    scene: Scene
    backend: str = "reference"

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W) in the scene's unit. Raises RaysMissVolume, NotRigid."""
        return self.image_float64(camera, camera_from_world).astype(np.float32)

    def image_float64(self, camera: Camera, camera_from_world: Matrix) -> FloatArray:
        """The projection (S, H, W) before it is rounded to float32."""
        return self._project(camera, camera_from_world)[..., 0]

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the twist of `rigid.moved` about the pivot."""
        image, ends = self.image_and_ends_float64(camera, camera_from_world)
        pivot_mm = transform_points(camera_from_world, pivot_world_mm)
        ends_mm = (camera.source_points_mm(), camera.detector_points_mm())
        jacobian = twist_jacobian(ends[..., 0, :], ends[..., 1, :], ends_mm, pivot_mm)
        return image.astype(np.float32), jacobian.astype(np.float32)

    def image_and_ends(
        self, camera: Camera, camera_from_world: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 2, 3) by the rays' ends in camera mm."""
        image, ends = self.image_and_ends_float64(camera, camera_from_world)
        return image.astype(np.float32), ends.astype(np.float32)

    def image_and_ends_float64(self, camera: Camera, camera_from_world: Matrix) -> tuple[FloatArray, FloatArray]:
        """`image_and_ends` before it is rounded to float32."""
        sums = self._project(camera, camera_from_world, gradient=True)
        to_camera = index_from_camera(self.scene.grid, camera_from_world)[:3, :3]
        return sums[..., 0], np.stack([sums[..., 1:4] @ to_camera, sums[..., 4:7] @ to_camera], axis=-2)

    def _project(self, camera: Camera, camera_from_world: Matrix, *, gradient: bool = False) -> FloatArray:
        """(S, H, W, 1 or 7): the image, then its derivatives by the source's and the pixel's place in index space."""
        require_rays_meet(self.scene.grid, camera, camera_from_world)
        matrix = index_from_camera(self.scene.grid, camera_from_world)
        sources, steps = (points.reshape(-1, 3) for points in camera_rays(matrix, camera))
        out = np.zeros((len(self.scene.structures), len(steps), 7 if gradient else 1))
        rays = max(_CHUNK_SAMPLES // (2 * sum(self.scene.grid.shape)), 1)
        for first in range(0, len(steps), rays):
            part = slice(first, first + rays)
            out[:, part] = self._integrals(sources[part], steps[part], gradient)
        out *= camera.ray_lengths_mm().reshape(-1, 1)
        return out.reshape(len(self.scene.structures), camera.size_px[1], camera.size_px[0], -1)

    def _integrals(self, sources: FloatArray, steps: FloatArray, gradient: bool) -> FloatArray:
        """The integrals over t of the field (and of its gradient, weighted by 1 - t and t) for some rays, (S, R, C)."""
        t, weights = gauss_points(sources, steps, self.scene.grid.shape)
        points = sources[:, None, :] + t[..., None] * steps[:, None, :]
        rows = []
        for channel in range(len(self.scene.structures)):
            field = trilinear(self.scene.channel_values(channel), points, gradient=gradient)
            columns = [field[..., :1]]
            if gradient:
                columns += [field[..., 1:] * (1 - t)[..., None], field[..., 1:] * t[..., None]]
            rows.append(np.sum(np.concatenate(columns, axis=-1) * weights[..., None], axis=1))
        return np.stack(rows)


def gauss_points(sources: FloatArray, steps: FloatArray, shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """Two Gauss-Legendre points t and weights (R, P) for every piece of the rays sources + t * steps in the field."""
    start, end = field_interval(sources, steps, shape)
    crossings = [start[:, None], end[:, None]]
    for axis, n in enumerate(shape):
        along = steps[:, axis, None]
        safe = np.where(np.abs(along) < 1e-12, np.inf, along)
        crossings.append((np.arange(-1, n + 1) - sources[:, axis, None]) / safe)
    ends = np.sort(np.clip(np.concatenate(crossings, axis=1), start[:, None], np.maximum(start, end)[:, None]), axis=1)
    middle, half = (ends[:, 1:] + ends[:, :-1]) / 2, (ends[:, 1:] - ends[:, :-1]) / 2
    t = np.concatenate([middle - half / np.sqrt(3), middle + half / np.sqrt(3)], axis=1)
    return t, np.concatenate([half, half], axis=1)


def trilinear(values: NDArray[np.float32], points: FloatArray, *, gradient: bool = False) -> FloatArray:
    """The zero-padded trilinear interpolation at index points (..., 3): (..., 1), or with its gradient (..., 4)."""
    padded = np.pad(values.astype(np.float64), 2)
    # Two voxels of padding: points clipped to it see zeros on all sides, so that value and gradient vanish outside.
    places = np.clip(points + 2.0, 0.0, np.array(padded.shape) - 1.001)
    corner = np.floor(places).astype(np.intp)
    fraction = places - corner
    out = np.zeros((*points.shape[:-1], 4 if gradient else 1))
    for offset in itertools.product((0, 1), repeat=3):
        value = padded[tuple(corner[..., axis] + offset[axis] for axis in range(3))]
        weights = [fraction[..., axis] if offset[axis] else 1 - fraction[..., axis] for axis in range(3)]
        out[..., 0] += value * weights[0] * weights[1] * weights[2]
        if gradient:
            for axis in range(3):
                others = weights[(axis + 1) % 3] * weights[(axis + 2) % 3]
                out[..., 1 + axis] += value * others * (1 if offset[axis] else -1)
    return out
