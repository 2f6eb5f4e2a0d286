"""Where a mask is seen: against closed forms, and against a slow walk through the same surface."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hierbmd.anatomy.silhouette import SMOOTHED_VOXELS, silhouette
from hierbmd.geometry import Camera, Grid, Placement, View
from hierbmd.rigid import invert_rigid, rigid_matrix, transform_points


def _turned(grid, angles_deg, far_mm):
    """A camera's pose that looks at the middle of a grid from `far_mm`, turned."""
    turn = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    return rigid_matrix(turn, np.array([0.0, 0.0, far_mm]) - turn @ grid.centre_world_mm)


def _fine(field_mm, far_mm=20_000.0):
    """0.25 mm pixels at the middle of what is seen from far away."""
    n = 4 * field_mm
    return Camera(far_mm + 500.0, (n, n), (0.25 * (far_mm + 500.0) / far_mm,) * 2)


def silhouette_in_steps(mask, grid, camera, camera_from_world, step_mm=0.05):
    """The slow twin: each ray is walked in small steps through the smoothed mask."""
    surface = ndimage.gaussian_filter(mask.astype(np.float32), SMOOTHED_VOXELS, mode="constant")
    index_from_camera = grid.index_from_world @ invert_rigid(camera_from_world)
    points = camera.detector_points_mm()
    seen = np.zeros(points.shape[:2], dtype=np.uint8)
    for place in np.ndindex(seen.shape):
        far = np.linalg.norm(points[place])
        steps = np.arange(0.0, far, step_mm)
        index = transform_points(index_from_camera, steps[:, None] / far * points[place])
        seen[place] = ndimage.map_coordinates(surface, index.T, order=1, prefilter=False).max() >= 0.5
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_what_is_seen_is_what_a_walk_in_small_steps_sees(seed):
    """Blobs in voxels of three sizes, from 90 mm away in any direction."""
    rng = np.random.default_rng(seed)
    grid = Grid((24, 20, 30), np.diag([2.0, 1.5, 3.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[3:-3, 3:-3, 3:-3] = ndimage.gaussian_filter(rng.standard_normal((18, 14, 24)), 2.0) > 0.05
    pose, camera = _turned(grid, rng.uniform(-180, 180, 3), 90.0), Camera(160.0, (21, 19), (6.0, 6.0))
    found, twin = silhouette(mask, grid, camera, pose), silhouette_in_steps(mask, grid, camera, pose)
    assert 0.1 < twin.mean() < 0.9
    assert np.mean(found != twin) < 0.01


def test_a_block_is_seen_to_its_faces():
    """Along an axis: 20 by 30 mm across its middle, whatever the depth, where a projector smears half a voxel more; its
    corners are rounded by a part of a voxel's face each (6 mm2)."""
    grid = Grid((24, 20, 30), np.diag([2.0, 1.5, 3.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[7:17, 5:15, 10:20] = True
    seen = silhouette(mask, grid, _fine(60), Placement(View.AP, grid.centre_world_mm, 20_000.0).camera_from_world())
    assert np.count_nonzero(seen[120]) * 0.25 == pytest.approx(20.0, abs=0.01)
    assert np.count_nonzero(seen[:, 120]) * 0.25 == pytest.approx(30.0, abs=0.01)
    assert 0.0 < 600.0 - 0.0625 * np.count_nonzero(seen) < 4 * 0.4 * 6.0


@pytest.mark.parametrize("spacing_mm", [1.5, 2.5, 3.5])
def test_a_slanting_neck_box_and_a_ball_are_not_widened_by_their_voxels(spacing_mm):
    """15 mm of a cylinder of radius 15 mm, and a ball of that radius, at three angles: 4.5 and 7.07 cm2 within 4 %."""
    n = int(46 / spacing_mm)
    grid = Grid((n, n, n), np.diag([spacing_mm] * 3 + [1.0]))
    offsets = np.moveaxis(np.indices(grid.shape), 0, -1) * spacing_mm - grid.centre_world_mm - [0.4, -0.3, 0.6]
    areas = {"box": [], "ball": []}
    for angles_deg in ([20.0, 35.0, 50.0], [-40.0, 10.0, 25.0], [5.0, -30.0, -15.0]):
        pose = _turned(grid, angles_deg, 20_000.0)
        x, y, z = np.moveaxis(offsets @ pose[:3, :3].T, -1, 0)
        masks = {"box": (np.abs(x) <= 7.5) & (np.hypot(y, z) <= 15.0), "ball": x**2 + y**2 + z**2 <= 225.0}
        for name, mask in masks.items():
            areas[name].append(0.0625 * np.count_nonzero(silhouette(mask, grid, _fine(46), pose)))
    assert np.mean(areas["box"]) == pytest.approx(450.0, rel=0.04)
    assert np.mean(areas["ball"]) == pytest.approx(225.0 * np.pi, rel=0.04)
