"""Scatter: its amount by thickness and grid, its smoothness, its independence of pixel size."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.physics.scatter import NO_GRID, SPR_PER_CM, Grid, add_scatter, scatter_image


def _slab(size_px, thickness_cm):
    return np.full(size_px, np.exp(-0.21 * thickness_cm), np.float32), np.full(size_px, thickness_cm, np.float32)


def test_scatter_fraction_behind_20_cm_is_that_of_a_pelvis():
    """Without a grid 0.70-0.85, with one 0.25-0.45, at the middle of a 43 cm field: textbooks' ranges, and those that
    photons one by one give (test_transport.py)."""
    primary, water_cm = _slab((256, 256), 20.0)
    scatter = scatter_image(primary, water_cm, (1.68, 1.68))[128, 128]
    grid = Grid()
    assert 0.70 < scatter / (scatter + primary[0, 0]) < 0.85
    behind = grid.scatter * scatter
    assert 0.25 < behind / (behind + grid.primary * primary[0, 0]) < 0.45


def test_a_wide_field_has_the_ratio_of_its_constant():
    primary, water_cm = _slab((200, 200), 10.0)
    ratio = scatter_image(primary, water_cm, (10.0, 10.0))[100, 100] / primary[0, 0]
    assert ratio == pytest.approx(10.0 * SPR_PER_CM, rel=0.02)


def test_scatter_is_linear_in_fluence_and_grows_with_field_size():
    primary, water_cm = _slab((128, 128), 20.0)
    whole = scatter_image(primary, water_cm, (3.0, 3.0))
    assert scatter_image(2 * primary, water_cm, (3.0, 3.0)) == pytest.approx(2 * whole, rel=1e-5)
    small = np.zeros_like(primary)
    small[48:80, 48:80] = primary[0, 0]
    assert scatter_image(small, water_cm, (3.0, 3.0))[64, 64] < 0.55 * whole[64, 64]


def test_scatter_does_not_depend_on_pixel_size():
    coarse = scatter_image(*_slab((64, 64), 20.0), (6.0, 6.0))
    fine = scatter_image(*_slab((256, 256), 20.0), (1.5, 1.5))
    assert fine[::4, ::4][16:48, 16:48] == pytest.approx(coarse[16:48, 16:48], rel=0.03)


def test_scatter_lies_where_the_primary_is():
    """A narrow beam's scatter is centred on it: no shift by the blocks that it is computed on."""
    primary, water_cm = np.zeros((200, 160), np.float32), np.full((200, 160), 20.0, np.float32)
    primary[80:121, 90:111] = 1.0
    scatter = scatter_image(primary, water_cm, (2.0, 2.0))
    rows, columns = np.indices(scatter.shape)
    window = scatter[50:151, 60:141]
    assert (window * rows[50:151, 60:141]).sum() / window.sum() == pytest.approx(100.0, abs=0.5)
    assert (window * columns[50:151, 60:141]).sum() / window.sum() == pytest.approx(100.0, abs=0.5)


def test_nothing_behind_air_but_the_primary():
    primary = np.ones((32, 32), np.float32)
    assert add_scatter(primary, np.zeros_like(primary), (2.0, 2.0), NO_GRID) == pytest.approx(primary)
