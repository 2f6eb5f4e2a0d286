"""Subcutaneous fat grown and thinned: the skin goes by what the layer gains, the lean body stays."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.simulation.deform import exponential, lattice_around, warped
from hierbmd.simulation.fat_layer import GROWTH, MM_PER_KG_M2, fat_layer

LEAN_MM, FAT_MM, SKIN_MM = 70.0, 24.0, 2.0


@pytest.fixture(scope="module")
def trunk():
    """A round trunk: muscle with fat between its halves, fat, skin; the scan cuts both of its ends."""
    grid = Grid((90, 90, 24), np.diag([3.0, 3.0, 5.0, 1.0]))
    x, y, _ = np.moveaxis(np.moveaxis(np.indices(grid.shape), 0, -1) * grid.spacing_mm - grid.centre_world_mm, -1, 0)
    away = np.hypot(x, y)
    hu = np.full(grid.shape, -1000.0)
    hu[away < LEAN_MM + FAT_MM + SKIN_MM] = 20.0
    hu[away < LEAN_MM + FAT_MM] = -100.0
    hu[away < LEAN_MM] = 55.0
    hu[(np.abs(x) < 6.0) & (away < LEAN_MM)] = -100.0
    return Volume(hu.astype(np.float32), grid)


def _radius(mask, grid):
    """The radius of the disc with the mask's mean area in a slice."""
    return float(np.sqrt(mask.sum() / mask.shape[2] * grid.spacing_mm[0] ** 2 / np.pi))


def test_the_layer_is_measured(trunk):
    layer = fat_layer(trunk)
    assert layer.thickness_mm == pytest.approx(FAT_MM, abs=3.0)
    assert layer.stretch(4.0) == pytest.approx(1.0 + 4.0 * MM_PER_KG_M2 / layer.thickness_mm)
    assert (layer.stretch(-99.0), layer.stretch(99.0)) == GROWTH


@pytest.mark.parametrize("stretch", [0.65, 1.5])
def test_skin_moves_by_what_the_layer_gains_and_the_lean_body_stays(trunk, stretch):
    lattice = lattice_around(trunk.grid, step_mm=8.0, margin_mm=30.0)
    field = exponential(fat_layer(trunk).velocity(stretch, lattice), lattice)
    assert field.jacobian(trunk.grid).min() > 0.3
    grown = warped(trunk, field, trunk.grid, order=1)
    gained = _radius(grown.values > -300, trunk.grid) - _radius(trunk.values > -300, trunk.grid)
    # Smoothing takes about a millimetre at the inner side of the layer.
    assert gained == pytest.approx((stretch - 1.0) * (FAT_MM + SKIN_MM), abs=2.5)
    x, y, _ = np.moveaxis(np.indices(trunk.grid.shape) * 3.0, 0, -1).transpose(3, 0, 1, 2)[:3]
    deep = np.hypot(x - x.mean(), y - y.mean()) < LEAN_MM - 15.0
    assert np.mean(np.abs(grown.values - trunk.values)[deep] > 20.0) < 0.01
    # What is skin stays skin; thinned below a voxel it shares that with the air.
    ring = np.argwhere(grown.values[:, 45, 12] > -300).ravel()[:2]
    assert grown.values[ring, 45, 12].max() > (-60.0 if stretch > 1 else -110.0)


def test_all_air_has_no_layer():
    grid = Grid((20, 20, 10), np.diag([4.0, 4, 4, 1]))
    assert fat_layer(Volume(np.full(grid.shape, -1000.0, np.float32), grid)).thickness_mm == 0.0
