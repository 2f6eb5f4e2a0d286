"""Warps of a whole patient: closed forms for known affines, inverses, the slab path against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.rigid import transform_points
from hierbmd.simulation.deform import (
    Displacement,
    composed,
    exponential,
    lattice_around,
    node_points,
    smooth_velocity,
    warped,
    warped_labels,
)

RADIUS_MM = 22.0


def _grid():
    """A grid of uneven voxels whose axes are turned against the world's."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [5.0, -8.0, 12.0], degrees=True).as_matrix() @ np.diag([1.5, 1.6, 2.0])
    matrix[:3, 3] = [12.0, -40.0, 700.0]
    return Grid((56, 54, 44), matrix)


@pytest.fixture(scope="module")
def ball():
    """A ball of 300 mg/cm3 with a soft edge, and its label."""
    grid = _grid()
    away = np.linalg.norm(node_points(grid) - grid.centre_world_mm, axis=-1)
    share = np.clip(0.5 + (RADIUS_MM - away) / 1.6, 0, 1)
    labels = LabelMap((share > 0.5).astype(np.uint8), grid, {"femur_left": 1})
    return Volume((300.0 * share).astype(np.float32), grid, "mg/cm3 HA"), labels


def _affine(grid, matrix):
    """The backward displacement of x -> c + M (x - c)."""
    lattice = lattice_around(grid, step_mm=9.0, margin_mm=60.0)
    offset = node_points(lattice) - grid.centre_world_mm
    return Displacement(offset @ (np.linalg.inv(matrix) - np.eye(3)).T, lattice)


STRETCH = np.array([[1.12, 0.06, 0.0], [0.0, 0.93, 0.04], [0.03, 0.0, 1.05]])


@pytest.mark.parametrize("order", [1, 3])
def test_an_affine_scales_mass_by_its_determinant_and_area_by_its_cofactor(ball, order):
    """Density is transported: mass grows as volume, areal density as length along the ray, area as what is left."""
    volume, labels = ball
    field = _affine(volume.grid, STRETCH)
    moved = warped(volume, field, volume.grid, order=order).values
    before, after = volume.values.sum(dtype=np.float64), moved.sum(dtype=np.float64)
    assert after / before == pytest.approx(np.linalg.det(STRETCH), rel=0.003)
    ray = volume.grid.world_from_index[:3, 2] / volume.grid.spacing_mm[2]
    # The shadow of M(ball) along d: the ball's shadow along M^-1 d, times det(M) |M^-1 d|.
    expected = np.linalg.det(STRETCH) * np.linalg.norm(np.linalg.solve(STRETCH, ray))
    bone = warped_labels(labels, field, volume.grid)
    shadow = [np.count_nonzero(one.ids.any(axis=2)) for one in (labels, bone)]
    assert shadow[1] / shadow[0] == pytest.approx(expected, rel=0.01)
    areal = [v.sum(dtype=np.float64) / area for v, area in zip((volume.values, moved), shadow, strict=True)]
    assert areal[1] / areal[0] == pytest.approx(np.linalg.det(STRETCH) / expected, rel=0.01)


def test_the_jacobian_of_an_affine_is_its_inverse_determinant(ball):
    """Six nodes inside the lattice little is left of the spline's mirrored ends."""
    grid = ball[0].grid
    assert _affine(grid, STRETCH).jacobian(grid) == pytest.approx(1.0 / np.linalg.det(STRETCH), rel=1e-3)


def test_a_velocity_and_its_opposite_undo_each_other_and_fold_nowhere(ball):
    grid = ball[0].grid
    lattice = lattice_around(grid, step_mm=8.0, margin_mm=60.0)
    velocity = 6.0 * smooth_velocity(np.random.default_rng(3), lattice, scale_mm=30.0)
    there, back = exponential(velocity, lattice), exponential(-velocity, lattice)
    inner = tuple(slice(6, -6) for _ in range(3))
    assert np.abs(there.values[inner]).max() > 3.0
    assert np.abs(composed(there, back).values[inner]).max() < 0.1
    assert there.jacobian(grid).min() > 0.3
    product = there.jacobian(grid).mean() * back.jacobian(grid).mean()
    assert product == pytest.approx(1.0, abs=0.1)


def test_slabs_are_the_displacement_at_each_voxel(ball):
    grid = ball[0].grid
    lattice = lattice_around(grid, step_mm=11.0, margin_mm=20.0)
    field = Displacement(smooth_velocity(np.random.default_rng(1), lattice, scale_mm=30.0), lattice)
    slow = field.at(node_points(grid))
    fast = np.concatenate([part for _, part in field.slabs(grid)])
    assert fast == pytest.approx(slow, abs=1e-9)


def test_labels_go_where_their_structure_goes(ball):
    """A shift by parts of a voxel and a stretch: the label's volume and centroid are the closed form's."""
    volume, labels = ball
    shift = np.array([2.3, -1.7, 3.1])
    field = _affine(volume.grid, STRETCH)
    field = Displacement(field.values - shift, field.lattice)
    moved = warped_labels(labels, field, volume.grid)
    before, after = (np.argwhere(one.ids == 1).astype(float) for one in (labels, moved))
    assert len(after) / len(before) == pytest.approx(np.linalg.det(STRETCH), rel=0.01)
    centre = transform_points(volume.grid.world_from_index, after.mean(axis=0))
    assert centre == pytest.approx(volume.grid.centre_world_mm + STRETCH @ shift, abs=0.1)


def test_metal_is_not_smoothed(ball):
    volume, _ = ball
    values = volume.values.copy()
    metal = np.zeros(values.shape, bool)
    metal[26:30, 25:29, 20:24] = True
    values[metal] = 3071.0
    field = _affine(volume.grid, STRETCH)
    moved = warped(Volume(values, volume.grid), field, volume.grid, nearest=metal.astype(np.float32))
    assert np.count_nonzero(moved.values == 3071.0) == pytest.approx(64 * np.linalg.det(STRETCH), abs=16)


def test_the_last_slice_goes_on_along_the_body_and_beside_it_is_air():
    grid = Grid((20, 18, 16), np.diag([4.0, 4, 4, 1]))
    volume = Volume(np.full(grid.shape, 40.0, np.float32), grid)
    lattice = lattice_around(grid, step_mm=10.0, margin_mm=30.0)
    along = warped(volume, Displacement(np.full((*lattice.shape, 3), [0.0, 0, 13.0]), lattice), grid)
    assert along.values == pytest.approx(40.0, abs=1e-3)
    wide = Volume(np.pad(volume.values, 1, constant_values=-1000.0), Grid((22, 20, 18), np.diag([4.0, 4, 4, 1])))
    beside = warped(wide, Displacement(np.full((*lattice.shape, 3), [13.0, 0, 0]), lattice), wide.grid)
    assert np.all(beside.values[-3:] < -900)
