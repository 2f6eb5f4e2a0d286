"""Target registration error: how far a pose puts the bone's surface from where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierbmd.geometry import Beam
from hierbmd.registration.rays import ray_directions
from hierbmd.rigid import Matrix, transform_points


@dataclass(frozen=True)
class TargetError:
    """Mean distances over the bone's surface, mm: across each point's own ray, along it, and in space."""

    in_plane_mm: float
    depth_mm: float
    total_mm: float


def target_error(
    camera_from_world: Matrix, true_camera_from_world: Matrix, points_world_mm: Matrix, *, beam: Beam = Beam.CONE
) -> TargetError:
    """The mean target registration error of a pose over `points_world_mm` (n, 3), in plane and depth apart.

    Each point's error is split along the ray of the `beam` through its true place. The part across the ray is what
    shifts it on the image: the reprojection distance of van de Kraats et al., IEEE TMI 2005;24:1177; the part along
    it is depth, which one view hardly shows.
    """
    truth = transform_points(true_camera_from_world, np.atleast_2d(points_world_mm))
    error = transform_points(camera_from_world, np.atleast_2d(points_world_mm)) - truth
    ray = ray_directions(truth, beam)
    along = np.sum(error * ray, axis=1)
    across = np.linalg.norm(error - along[:, None] * ray, axis=1)
    total = np.linalg.norm(error, axis=1)
    return TargetError(float(across.mean()), float(np.abs(along).mean()), float(total.mean()))
