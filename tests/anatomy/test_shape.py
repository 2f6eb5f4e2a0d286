"""Shape measurements against solids of known size."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.shape import box_of, fit_sphere, inscribed_radius_mm, solid, subgrid, surface_points, world_points
from hierbmd.errors import BadRegion, NotOrthogonal
from hierbmd.geometry import Grid

SPACING = np.array([2.0, 1.5, 3.0])
GRID = Grid((40, 50, 30), np.diag([*SPACING, 1.0]))
CENTRE, RADIUS = np.array([38.3, 37.1, 44.2]), 22.0


def _ball(radius=RADIUS):
    return np.linalg.norm(np.moveaxis(np.indices(GRID.shape), 0, -1) * SPACING - CENTRE, axis=-1) <= radius


def test_surface_points_lie_on_the_surface_on_average():
    """The outermost voxels' centres would be about half a voxel (1 mm) inside."""
    distances = np.linalg.norm(surface_points(_ball(), GRID) - CENTRE, axis=1)
    assert distances.mean() == pytest.approx(RADIUS, abs=0.15)
    assert distances.std() < 1.0


def test_a_sphere_is_found_from_a_rough_start_with_a_cap_missing_and_a_neck_attached():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    on_sphere = CENTRE + RADIUS * directions[directions[:, 0] < 0.5]
    angle, along = rng.uniform(0, 2 * np.pi, 900), rng.uniform(20.5, 50, 900)
    neck = CENTRE + np.column_stack([along, 13 * np.cos(angle), 13 * np.sin(angle)])
    sphere = fit_sphere(np.concatenate([on_sphere, neck]), CENTRE + np.array([3, -2, 2]), 18.0)
    assert sphere.centre_world_mm == pytest.approx(CENTRE, abs=0.15)
    assert sphere.radius_mm == pytest.approx(RADIUS, abs=0.1)
    assert 0.7 < sphere.coverage < 0.9
    assert sphere.residual_mm < 0.4


def test_no_sphere_where_there_is_no_surface():
    with pytest.raises(BadRegion, match="no sphere fits"):
        fit_sphere(CENTRE + np.random.default_rng(0).normal(0, 1, (100, 3)), CENTRE, 30.0)


def test_the_widest_ball_is_found_with_anisotropic_voxels():
    radius = inscribed_radius_mm(_ball(), GRID)
    at = np.unravel_index(np.argmax(radius), radius.shape)
    assert radius.max() == pytest.approx(RADIUS, abs=1.5)
    assert np.linalg.norm(np.array(at) * SPACING - CENTRE) < 3.0


def test_a_sheared_grid_is_refused():
    matrix = np.eye(4)
    matrix[0, 1] = 0.2
    with pytest.raises(NotOrthogonal):
        inscribed_radius_mm(np.ones((4, 4, 4), bool), Grid((4, 4, 4), matrix))


def test_solid_keeps_the_largest_part_and_fills_it():
    mask = _ball() & ~_ball(10.0)
    mask[0, 0, 0] = True
    assert np.array_equal(solid(mask), _ball())
    assert not solid(np.zeros((3, 3, 3), bool)).any()


def test_a_box_keeps_every_voxel_where_it_is():
    mask = _ball()
    box = box_of(mask)
    assert np.allclose(world_points(mask[box], subgrid(GRID, box)), world_points(mask, GRID))
    with pytest.raises(BadRegion, match="empty"):
        box_of(np.zeros((3, 3, 3), bool))
