"""The slow, readable twin of the compiled kernels: Joseph's sum in float64, one plane at a time, nothing skipped."""

from __future__ import annotations

import numpy as np

from hierbmd.drr.rays import index_from_camera
from hierbmd.geometry import moved, transform_points


def joseph_image(scene, camera, camera_from_world):
    """The projection (S, H, W) in float64 of a scene."""
    matrix = index_from_camera(scene.grid, camera_from_world)
    source = matrix[:3, 3]
    pixels = camera.detector_points_mm()
    out = np.zeros((len(scene.structures), *pixels.shape[:2]))
    for channel in range(len(scene.structures)):
        values = scene.channel_values(channel).astype(np.float64)
        for row, col in np.ndindex(*pixels.shape[:2]):
            step = transform_points(matrix, pixels[row, col]) - source
            out[channel, row, col] = np.linalg.norm(pixels[row, col]) * _ray(values, source, step)
    return out


def joseph_jacobian(scene, camera, camera_from_world, pivot_world_mm, *, step=1e-7):
    """Central differences of `joseph_image` by the six of `geometry.moved`, (S, H, W, 6).

    The field has kinks at the voxel centres: the step is small so that hardly a ray steps over one.
    """
    columns = []
    for twist in np.eye(6) * step:
        ahead, behind = (
            joseph_image(scene, camera, moved(camera_from_world, sign * twist, pivot_world_mm)) for sign in (1, -1)
        )
        columns.append((ahead - behind) / (2 * step))
    return np.stack(columns, axis=-1)


def _ray(values, source, step):
    """The integral over t in [0, 1] of the field along source + t * step, planes joined by straight lines."""
    along = int(np.argmax(np.abs(step)))
    lower, upper = sorted((source[along], source[along] + step[along]))
    total = 0.0
    for plane in range(values.shape[along]):
        weight = _hat_integral(upper - plane) - _hat_integral(lower - plane)
        if weight > 0:
            point = source + step * (plane - source[along]) / step[along]
            total += weight * _bilinear(np.take(values, plane, axis=along), np.delete(point, along))
    return total / abs(step[along])


def _hat_integral(u):
    u = np.clip(u, -1, 1)
    return 0.5 * (1 + u) ** 2 if u < 0 else 1 - 0.5 * (1 - u) ** 2


def _bilinear(plane, point):
    low = np.floor(point).astype(int)
    total = 0.0
    for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = low + offset
        if np.all(at >= 0) and np.all(at < plane.shape):
            total += plane[tuple(at)] * np.prod(1 - np.abs(point - at))
    return total
