"""What a beam makes of lengths: a pixel's size where the bone is, and which way the rays run there."""

from __future__ import annotations

import numpy as np

from hierbmd.geometry import Beam, Camera
from hierbmd.rigid import Matrix, Vector


def pixel_at_depth_mm(camera: Camera, depth_mm: float) -> Vector:
    """A pixel's (width, height) in mm at a distance from the source's plane: smaller only along an axis that fans."""
    reduction = np.where(camera.beam.fans, max(depth_mm, 1.0) / camera.sdd_mm, 1.0)
    return np.asarray(np.array(camera.pixel_mm) * reduction)


def mean_pixel_mm(camera: Camera, depth_mm: float) -> float:
    """The geometric mean of a pixel's two sides at a distance from the source's plane."""
    return float(np.sqrt(np.prod(pixel_at_depth_mm(camera, depth_mm))))


def ray_directions(points_camera_mm: Matrix, beam: Beam) -> Matrix:
    """The unit vectors (n, 3), source to detector, of the rays through points (n, 3) in camera mm."""
    rays = points_camera_mm * [*beam.fans, True]
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))
