"""The slow, readable twin of the compiled kernels: Joseph's sum in float64, one plane at a time, nothing skipped."""

from __future__ import annotations

import numpy as np

from hierbmd.drr.rays import index_from_camera
from hierbmd.rigid import moved, transform_points


def joseph_image(scene, camera, camera_from_world):
    """The projection (S, H, W) in float64 of a scene."""
    sources, steps = _rays(scene.grid, camera, camera_from_world)
    channels = [scene.channel_values(channel) for channel in range(len(scene.structures))]
    return np.stack([line_integrals(values, sources, steps) for values in channels]) * camera.ray_lengths_mm()


def line_integrals(values, sources, steps):
    """The integrals over t in [0, 1] of a volume (ni, nj, nk) along rays sources + t * steps (..., 3), index space."""
    values = values.astype(np.float64)
    along = np.argmax(np.abs(steps), axis=-1)
    out = np.zeros(steps.shape[:-1])
    for axis in range(3):
        rays = along == axis
        out[rays] = _integrals(values, sources[rays], steps[rays], axis)
    return out


def joseph_backprojection(images, grid, camera, camera_from_world, channels=None):
    """The transpose of `joseph_image` in the volume, (ni, nj, nk) float64: each tap hands back what it took."""
    sources, steps = _rays(grid, camera, camera_from_world)
    along = np.argmax(np.abs(steps), axis=-1)
    out = np.zeros((len(images), *grid.shape))
    for image, back in zip(images * camera.ray_lengths_mm(), out, strict=True):
        for axis in range(3):
            rays = along == axis
            for plane, weight, points in _planes(sources[rays], steps[rays], axis, grid.shape[axis]):
                _spread(image[rays] * weight, np.moveaxis(back, axis, 0)[plane], points)
    if channels is None:
        return out[0]
    return np.sum([np.where(channels == number + 1, back, 0) for number, back in enumerate(out)], axis=0)


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


def _rays(grid, camera, camera_from_world):
    matrix = index_from_camera(grid, camera_from_world)
    sources = transform_points(matrix, camera.source_points_mm())
    return sources, transform_points(matrix, camera.detector_points_mm()) - sources


def _integrals(values, sources, steps, axis):
    """The integrals over t in [0, 1] of the field along sources + t * steps (R, 3), planes joined by straight lines."""
    total = np.zeros(len(steps))
    for plane, weight, points in _planes(sources, steps, axis, values.shape[axis]):
        total += weight * _bilinear(np.take(values, plane, axis=axis), points)
    return total


def _planes(sources, steps, axis, count):
    """Each plane of an axis with its weight in the rays (R,) and where they cross it (R, 2)."""
    ends = np.sort([sources[:, axis], sources[:, axis] + steps[:, axis]], axis=0)
    for plane in range(count):
        weight = _hat_integral(ends[1] - plane) - _hat_integral(ends[0] - plane)
        points = sources + steps * ((plane - sources[:, axis]) / steps[:, axis])[:, None]
        yield plane, weight / np.abs(steps[:, axis]), np.delete(points, axis, axis=1)


def _hat_integral(u):
    u = np.clip(u, -1, 1)
    return np.where(u < 0, 0.5 * (1 + u) ** 2, 1 - 0.5 * (1 - u) ** 2)


def _bilinear(plane, points):
    total = np.zeros(len(points))
    for at, inside, weight in _taps(plane, points):
        total[inside] += plane[tuple(at[inside].T)] * weight[inside]
    return total


def _spread(values, plane, points):
    for at, inside, weight in _taps(plane, points):
        np.add.at(plane, tuple(at[inside].T), values[inside] * weight[inside])


def _taps(plane, points):
    low = np.floor(points).astype(int)
    for offset in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = low + offset
        yield at, np.all((at >= 0) & (at < plane.shape), axis=1), np.prod(1 - np.abs(points - at), axis=1)
