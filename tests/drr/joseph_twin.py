"""The slow, readable twin of the compiled kernels: Joseph's sum in float64, one plane at a time, nothing skipped."""

from __future__ import annotations

import numpy as np

from hierbmd.drr.rays import index_from_camera
from hierbmd.rigid import moved, transform_points


def joseph_image(scene, camera, camera_from_world):
    """The projection (S, H, W) in float64 of a scene."""
    matrix = index_from_camera(scene.grid, camera_from_world)
    sources = transform_points(matrix, camera.source_points_mm())
    steps = transform_points(matrix, camera.detector_points_mm()) - sources
    along = np.argmax(np.abs(steps), axis=-1)
    out = np.zeros((len(scene.structures), *steps.shape[:2]))
    for channel in range(len(scene.structures)):
        values = scene.channel_values(channel).astype(np.float64)
        for axis in range(3):
            rays = along == axis
            lengths = camera.ray_lengths_mm()[rays]
            out[channel][rays] = lengths * _integrals(values, sources[rays], steps[rays], axis)
    return out


def joseph_jacobian(scene, camera, camera_from_world, pivot_world_mm, *, step=1e-7):
    """Central differences of `joseph_image` by the six of `rigid.moved`, (S, H, W, 6).

    The field has kinks at the voxel centres: the step is small so that hardly a ray steps over one.
    """
    columns = []
    for twist in np.eye(6) * step:
        ahead, behind = (
            joseph_image(scene, camera, moved(camera_from_world, sign * twist, pivot_world_mm)) for sign in (1, -1)
        )
        columns.append((ahead - behind) / (2 * step))
    return np.stack(columns, axis=-1)


def _integrals(values, sources, steps, axis):
    """The integrals over t in [0, 1] of the field along sources + t * steps (R, 3), planes joined by straight lines."""
    ends = np.sort([sources[:, axis], sources[:, axis] + steps[:, axis]], axis=0)
    total = np.zeros(len(steps))
    for plane in range(values.shape[axis]):
        weight = _hat_integral(ends[1] - plane) - _hat_integral(ends[0] - plane)
        points = sources + steps * ((plane - sources[:, axis]) / steps[:, axis])[:, None]
        total += weight * _bilinear(np.take(values, plane, axis=axis), np.delete(points, axis, axis=1))
    return total / np.abs(steps[:, axis])


def _hat_integral(u):
    u = np.clip(u, -1, 1)
    return np.where(u < 0, 0.5 * (1 + u) ** 2, 1 - 0.5 * (1 - u) ** 2)


def _bilinear(plane, points):
    low = np.floor(points).astype(int)
    total = np.zeros(len(points))
    for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = low + offset
        inside = np.all((at >= 0) & (at < plane.shape), axis=1)
        total[inside] += plane[tuple(at[inside].T)] * np.prod(1 - np.abs(points - at), axis=1)[inside]
    return total
