"""Volumes whose line integrals are known in closed form, on any grid."""

from __future__ import annotations

import itertools

import numpy as np

from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Grid
from hierbmd.rigid import invert_rigid, transform_points


def scene_of(field, grid, *, oversample=1):
    """A scene of a function of world points (..., 3), averaged over oversample^3 points a voxel."""
    ticks = (np.arange(oversample) + 0.5) / oversample - 0.5
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).astype(np.float64)
    shifts = itertools.product(ticks, repeat=3)
    values = np.mean([field(transform_points(grid.world_from_index, index + shift)) for shift in shifts], axis=0)
    return Scene(values.astype(np.float32), grid, None, ("all",), Quantity.ATTENUATION, "1")


def rays_world(camera, camera_from_world):
    """The sources, unit directions (H, W, 3) and lengths (H, W) of a camera's rays, LPS mm."""
    world_from_camera = invert_rigid(camera_from_world)
    source = transform_points(world_from_camera, camera.source_points_mm())
    steps = transform_points(world_from_camera, camera.detector_points_mm()) - source
    lengths = np.linalg.norm(steps, axis=-1)
    return source, steps / lengths[..., None], lengths


def gaussian_field(centre, sigma_mm):
    return lambda points: np.exp(-np.sum((points - centre) ** 2, axis=-1) / (2 * sigma_mm**2))


def gaussian_integral(centre, sigma_mm, source, directions):
    """The whole line's integral: sigma sqrt(2 pi) exp(-d^2 / 2 sigma^2), d the line's distance from the centre."""
    to_centre = centre - source
    along = np.sum(to_centre * directions, axis=-1)
    distance2 = np.sum(to_centre**2, axis=-1) - along**2
    return sigma_mm * np.sqrt(2 * np.pi) * np.exp(-distance2 / (2 * sigma_mm**2))


def ellipsoid_field(centre, axes_mm, rotation):
    return lambda points: (np.sum(((points - centre) @ rotation / axes_mm) ** 2, axis=-1) < 1).astype(np.float64)


def ellipsoid_integral(centre, axes_mm, rotation, source, directions):
    """The chord of a line through an ellipsoid whose axes are the columns of `rotation`."""
    o, d = (source - centre) @ rotation / axes_mm, directions @ rotation / axes_mm
    a, b, c = np.sum(d * d, axis=-1), np.sum(o * d, axis=-1), np.sum(o * o, axis=-1) - 1
    return 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a


def box_field(centre, half_mm, rotation):
    return lambda points: np.all(np.abs((points - centre) @ rotation) < half_mm, axis=-1).astype(np.float64)


def box_integral(centre, half_mm, rotation, source, directions):
    """The chord of a line through a box, by slabs."""
    o, d = (source - centre) @ rotation, directions @ rotation
    near = np.max(np.minimum((-half_mm - o) / d, (half_mm - o) / d), axis=-1)
    far = np.min(np.maximum((-half_mm - o) / d, (half_mm - o) / d), axis=-1)
    return np.maximum(far - near, 0)


def reordered(scene, order, signs):
    """The same scene stored with its index axes in another order and direction."""
    flips = tuple(slice(None, None, sign) for sign in signs)
    values = np.transpose(scene.values, order)[flips]
    channels = None if scene.channels is None else np.ascontiguousarray(np.transpose(scene.channels, order)[flips])
    old_from_new = np.zeros((4, 4))
    old_from_new[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        old_from_new[old, new] = sign
        old_from_new[old, 3] = 0 if sign > 0 else scene.values.shape[old] - 1
    grid = Grid(values.shape, scene.grid.world_from_index @ old_from_new)
    return Scene(np.ascontiguousarray(values), grid, channels, scene.structures, scene.quantity, scene.unit)
