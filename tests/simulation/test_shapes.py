"""Implicit shapes against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.geometry import Grid
from hierbmd.rigid import transform_points
from hierbmd.simulation.shapes import Shape, box_of, chain, evaluate, group, occupancy


def _grid(half_mm=40.0, step_mm=2.0):
    n = int(2 * half_mm / step_mm) + 1
    matrix = np.diag([step_mm, step_mm, step_mm, 1.0])
    matrix[:3, 3] = -half_mm
    return Grid((n, n, n), matrix)


def _whole(grid):
    return tuple(slice(0, n) for n in grid.shape)


def _points(grid):
    return transform_points(grid.world_from_index, np.moveaxis(np.indices(grid.shape), 0, -1).astype(float))


def test_a_sphere_a_capsule_and_a_plate_have_their_distances():
    grid = _grid()
    points = _points(grid)
    sphere = evaluate(Shape((group([[1, 2, 3, 12]], [(0,)]),)), grid, _whole(grid)).distance_mm
    near = np.linalg.norm(points - [1, 2, 3], axis=-1) - 12
    within = near < 15
    assert sphere[within] == pytest.approx(near[within], abs=1e-4)
    capsule = evaluate(Shape((chain([[-10, 0, 0, 5], [10, 0, 0, 5]]),)), grid, _whole(grid)).distance_mm
    closest = np.stack([np.clip(points[..., 0], -10, 10), 0 * points[..., 0], 0 * points[..., 0]], axis=-1)
    near = np.linalg.norm(points - closest, axis=-1) - 5
    assert capsule[near < 12] == pytest.approx(near[near < 12], abs=1e-4)
    plate = group([[-20, -20, 0, 3], [20, -20, 0, 3], [0, 20, 0, 3]], [(0, 1, 2)])
    distance = evaluate(Shape((plate,)), grid, _whole(grid)).distance_mm
    assert distance[20, 18, :] == pytest.approx(np.minimum(np.abs(points[20, 18, :, 2]) - 3, 20.0), abs=1e-4)


def test_occupancy_of_a_sphere_sums_to_its_volume():
    grid = _grid()
    field = evaluate(Shape((group([[0.3, -0.4, 0.9, 21.0]], [(0,)]),)), grid, _whole(grid))
    volume = float(occupancy(field.distance_mm, 2.0).sum()) * 8.0
    # The ramp is exact for a plane; on a sphere it adds h^2 / (12 r^2) ... 3 h^2 / (12 r^2) of the volume, 0.2 %.
    assert volume == pytest.approx(4 / 3 * np.pi * 21.0**3, rel=3e-3)


def test_a_thin_shell_keeps_its_mass_whatever_the_voxel():
    expected = 4 / 3 * np.pi * (21.0**3 - 20.2**3)
    for step_mm in (1.0, 2.0, 4.0):
        grid = _grid(40.0, step_mm)
        d = evaluate(Shape((group([[0.3, -0.4, 0.9, 21.0]], [(0,)]),)), grid, _whole(grid)).distance_mm
        shell = occupancy(d, step_mm) - occupancy(d + 0.8, step_mm)
        assert shell.sum() * step_mm**3 == pytest.approx(expected, rel=0.02)


def test_groups_blend_without_a_gap_and_carving_takes_away():
    grid = _grid()
    joined = Shape((group([[-8, 0, 0, 10]], [(0,)]), group([[8, 0, 0, 10]], [(0,)], blend_mm=8.0)))
    sharp = Shape((group([[-8, 0, 0, 10]], [(0,)]), group([[8, 0, 0, 10]], [(0,)], blend_mm=1e-6)))
    smooth, cut = (evaluate(s, grid, _whole(grid)).distance_mm for s in (joined, sharp))
    assert np.all(smooth <= cut + 1e-5)
    assert smooth[20, 20, 20] < cut[20, 20, 20] - 1.0
    hollow = Shape((group([[0, 0, 0, 20]], [(0,)]), group([[0, 0, 0, 10]], [(0,)], carve=True)))
    distance = evaluate(hollow, grid, _whole(grid)).distance_mm
    assert distance[20, 20, 20] > 9
    assert distance[20 + 7, 20, 20] == pytest.approx(-4.0, abs=1e-4)


def test_planes_cut_and_move_with_the_shape():
    grid = _grid()
    half = group([[0, 0, 0, 20]], [(0,)], planes=[[0, 0, 1.0, 0.0]])
    turned = np.eye(4)
    turned[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    turned[:3, 3] = [4.0, 0, 0]
    distance = evaluate(Shape((half.transformed(turned),)), grid, _whole(grid)).distance_mm
    assert distance[20 - 4, 20, 20] < 0 < distance[20 + 6, 20, 20]


def test_wall_thickness_is_interpolated():
    grid = _grid()
    field = evaluate(Shape((chain([[-20, 0, 0, 5, 1.0], [20, 0, 0, 5, 3.0]]),)), grid, _whole(grid))
    assert field.thickness_mm[20, 20, 20] == pytest.approx(2.0, abs=1e-4)
    assert field.thickness_mm[10, 20, 20] == pytest.approx(1.0, abs=1e-4)


def test_a_box_holds_the_whole_shape_and_none_is_far_away():
    grid = _grid()
    shape = Shape((group([[5, -6, 7, 12]], [(0,)]),))
    box = box_of(shape, grid)
    inside = evaluate(shape, grid, _whole(grid)).distance_mm < 0
    outside = inside.copy()
    outside[box] = False
    assert inside.any()
    assert not outside.any()
    assert box_of(Shape((group([[500, 0, 0, 5]], [(0,)]),)), grid) is None


def test_a_voxel_does_not_depend_on_the_block_it_is_filled_in():
    """Pieces are passed by where no voxel of a block can feel them: a voxel filled alone has the same bits."""
    grid = _grid(step_mm=4.0)
    plate = group([[-20, -20, 0, 3, 2], [20, -20, 0, 3, 1], [0, 20, 0, 3, 3]], [(0, 1, 2)])
    shape = Shape((plate, chain([[0, 0, -30, 4], [0, 0, 30, 6]]), group([[8, 0, 0, 4]], [(0,)], carve=True)))
    whole = evaluate(shape, grid, _whole(grid))
    for at in [(3, 4, 5), (10, 10, 10), (11, 9, 14), (12, 6, 9), (20, 20, 20)]:
        alone = evaluate(shape, grid, tuple(slice(n, n + 1) for n in at))
        assert alone.distance_mm[0, 0, 0] == whole.distance_mm[at]
        assert alone.thickness_mm[0, 0, 0] == whole.thickness_mm[at]
