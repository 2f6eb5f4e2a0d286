"""Line integrals of the simulator against closed forms and the projector."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.blocks import block_mean
from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
from hierbmd.simulation.raymarch import line_integrals, supersampled

CAMERA = Camera(1000.0, (41, 31), (3.0, 3.0))


def _pose(grid, motion=None):
    return Placement(View.AP, grid.centre_world_mm, 800.0).camera_from_world(motion or Motion())


def _grid(shape=(24, 20, 28), spacing=(3.0, 4.0, 2.5)):
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = [-30, 12, 5]
    return Grid(shape, matrix)


def test_a_wide_slab_has_its_thickness_over_the_cosine():
    """A slab of 20 layers 4 mm apart, zero-padded trilinear: its field integrates to 80 mm along the normal."""
    grid = _grid((200, 20, 200), (3.0, 4.0, 3.0))
    integrals = line_integrals(np.ones((*grid.shape, 1), np.float32), grid, CAMERA, _pose(grid), step_mm=0.25)
    points = CAMERA.detector_points_mm()
    cosine = points[..., 2] / np.linalg.norm(points, axis=-1)
    assert integrals[..., 0] == pytest.approx(80.0 / cosine, rel=2e-3)


def test_a_gaussian_blob_has_its_closed_form():
    grid = _grid((40, 40, 40), (2.0, 2.0, 2.0))
    centre, sigma = grid.centre_world_mm + np.array([3.0, -2.0, 4.0]), 9.0
    index = np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.world_from_index[:3, :3].T + grid.world_from_index[:3, 3]
    blob = np.exp(-0.5 * np.sum((index - centre) ** 2, axis=-1) / sigma**2).astype(np.float32)
    pose = _pose(grid, Motion(5, -8, 3, 2, 1, 4))
    image = line_integrals(blob[..., None], grid, CAMERA, pose, step_mm=0.5)[..., 0]
    direction = CAMERA.detector_points_mm()
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    at = pose[:3, :3] @ centre + pose[:3, 3]
    away2 = np.sum(at**2) - (direction @ at) ** 2
    # Linear interpolation between samples h apart widens a blob: its variance along each axis grows by h^2 / 6.
    wide2 = sigma**2 + 2.0**2 / 6
    expected = np.sqrt(2 * np.pi) * sigma**3 / wide2 * np.exp(-0.5 * away2 / wide2)
    assert image == pytest.approx(expected, abs=0.002 * float(expected.max()))


def test_channels_are_integrated_apart_and_finer_steps_agree():
    grid = _grid()
    amounts = np.random.default_rng(0).random((*grid.shape, 3)).astype(np.float32)
    pose = _pose(grid, Motion(10, 5, -4))
    both = line_integrals(amounts, grid, CAMERA, pose, step_mm=0.5)
    alone = line_integrals(amounts[..., 1:2].copy(), grid, CAMERA, pose, step_mm=0.5)
    assert both[..., 1] == pytest.approx(alone[..., 0], rel=1e-5)
    fine = line_integrals(amounts, grid, CAMERA, pose, step_mm=0.05)
    assert np.abs(both - fine).max() < 0.01 * fine.max()


def test_it_is_the_projectors_field_sampled_apart_from_it():
    from hierbmd.data.volume import Volume
    from hierbmd.drr.projector import make_projector
    from hierbmd.drr.scene import Quantity, make_scene

    grid = _grid()
    density = (1000 * np.random.default_rng(1).random(grid.shape)).astype(np.float32)
    pose = _pose(grid, Motion(10, 5, -4, 3, 3, 3))
    scene = make_scene(Volume(density, grid, "mg/cm3 HA"), quantity=Quantity.DENSITY)
    projected = make_projector(scene, "reference").image(CAMERA, pose)[0]
    marched = 1e-4 * line_integrals(density[..., None], grid, CAMERA, pose, step_mm=0.1)[..., 0]
    assert marched == pytest.approx(projected, abs=2e-3 * float(projected.max()))


def test_rays_that_miss_and_empty_volumes_are_refused():
    grid = _grid()
    full = np.ones((*grid.shape, 1), np.float32)
    with pytest.raises(RaysMissVolume):
        line_integrals(full, grid, CAMERA, _pose(grid, Motion(tx_mm=5000.0)), step_mm=1.0)
    with pytest.raises(RaysMissVolume):
        line_integrals(full, grid, CAMERA, _pose(grid, Motion(tz_mm=-2000.0)), step_mm=1.0)
    with pytest.raises(RaysMissVolume):
        line_integrals(0 * full, grid, CAMERA, _pose(grid), step_mm=1.0)


def test_supersampling_splits_each_pixel_evenly():
    fine = supersampled(CAMERA, 3)
    points, wide = fine.detector_points_mm(), CAMERA.detector_points_mm()
    assert block_mean(points.astype(np.float32), 3) == pytest.approx(wide, abs=1e-4)
    assert supersampled(CAMERA, 1) == CAMERA


def test_four_channels_at_once_are_each_as_if_alone():
    """The kernel for four channels against the one for any number, to the last bit."""
    grid = _grid()
    amounts = np.random.default_rng(3).uniform(0.1, 1.0, (*grid.shape, 4)).astype(np.float32)
    pose = _pose(grid, Motion(4.0, -7.0, 3.0))
    four = line_integrals(amounts, grid, CAMERA, pose, step_mm=0.7)
    two = line_integrals(amounts[..., 2:].copy(), grid, CAMERA, pose, step_mm=0.7)
    assert np.array_equal(four[..., 2:], two)
