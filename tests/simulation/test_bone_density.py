"""Bones made denser or thinner: cortex and trabeculae apart, edges without halos, metal left alone."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.simulation.basis import nodes
from hierbmd.simulation.bone_density import DensityChange, bones_in, with_changed_density

SOFT = nodes()[1]
OUTER_MM, INNER_MM = 20.0, 17.0
CORTEX_HU, TRABECULAR_HU = 1100.0, 180.0


def _bone(spacing_mm):
    """A ball of trabecular bone in a cortex of 3 mm within soft tissue, with partial volume at both surfaces."""
    n = int(2 * (OUTER_MM + 8) / spacing_mm) + 1
    grid = Grid((n, n, n), np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
    index = np.moveaxis(np.indices(grid.shape), 0, -1) * spacing_mm
    away = np.linalg.norm(index - grid.centre_world_mm, axis=-1)
    outer, inner = (np.clip(0.5 + (r - away) / spacing_mm, 0, 1) for r in (OUTER_MM, INNER_MM))
    hu = SOFT * (1 - outer) + CORTEX_HU * (outer - inner) + TRABECULAR_HU * inner
    labels = LabelMap((outer > 0.5).astype(np.uint8), grid, {"femur_left": 1})
    return Volume(hu.astype(np.float32), grid), labels, away


@pytest.fixture(scope="module")
def bone():
    return _bone(1.0)


def _areal(volume, labels):
    """The column density of the label, in HU times mm: areal density over the line's slope."""
    return np.where(labels.ids > 0, np.maximum(volume.values, 0), 0).sum(axis=1, dtype=np.float64)


def test_one_factor_for_all_scales_areal_density_as_calculated(bone):
    """In the shell what is above soft tissue is scaled, inside all of it: the sum of both, voxel by voxel."""
    volume, labels, away = bone
    factor = 0.8
    changed = with_changed_density(volume, labels, DensityChange(left=float(np.log(factor))))
    inside = labels.ids > 0
    rest = SOFT * np.count_nonzero(inside & (away > OUTER_MM - 2.0))
    expected = factor * _areal(volume, labels).sum() + (1 - factor) * rest
    assert _areal(changed, labels).sum() == pytest.approx(expected, rel=0.003)
    deep = away < INNER_MM - 1.0
    assert changed.values[deep] == pytest.approx(factor * volume.values[deep], rel=1e-5)


def test_trabeculae_and_cortex_change_apart(bone):
    volume, labels, away = bone
    cortex, deep = (away > INNER_MM + 0.7) & (away < OUTER_MM - 0.7), away < INNER_MM - 3.0
    thin = with_changed_density(volume, labels, DensityChange(trabecular=np.log(0.7)))
    # A bone of one level loses the same everywhere, the whole factor; the denser voxels next to the cortex, less.
    assert thin.values[deep].mean() == pytest.approx(0.7 * volume.values[deep].mean(), rel=0.015)
    assert thin.values[cortex] == pytest.approx(volume.values[cortex], rel=1e-5)
    thin = with_changed_density(volume, labels, DensityChange(cortical=np.log(0.8)))
    assert thin.values[deep] == pytest.approx(volume.values[deep], rel=1e-5)
    assert thin.values[cortex].mean() < 0.9 * volume.values[cortex].mean()


def test_cortex_goes_from_its_inner_side(bone):
    volume, labels, away = bone
    thin = with_changed_density(volume, labels, DensityChange(cortical=np.log(0.7)))
    kept = (thin.values - SOFT) / np.maximum(volume.values - SOFT, 1.0)
    outer, inner = (np.median(kept[np.abs(away - r) < 0.4]) for r in (OUTER_MM - 0.6, INNER_MM + 0.6))
    assert inner < outer - 0.03
    assert outer == pytest.approx(0.7**0.6, abs=0.04)


@pytest.mark.parametrize("spacing_mm", [1.0, 3.0])
def test_a_thinned_cortex_leaves_no_halo(spacing_mm):
    """Outside the label, partial volume goes down with the cortex it comes from."""
    volume, labels, away = _bone(spacing_mm)
    thin = with_changed_density(volume, labels, DensityChange(cortical=np.log(0.4), trabecular=np.log(0.4)))
    rim = (labels.ids == 0) & (away < OUTER_MM + 1.5 * spacing_mm)
    before, after = (one.values[rim] - SOFT for one in (volume, thin))
    assert before.max() > 100
    assert after.max() < 0.65 * before.max()
    assert after.min() > -1e-3
    beyond = away > OUTER_MM + 3.0 * spacing_mm
    assert np.array_equal(thin.values[beyond], volume.values[beyond])


def test_sparse_trabeculae_lose_more_than_dense_ones(bone):
    volume, labels, away = bone
    values = volume.values.copy()
    half = (np.arange(values.shape[0]) < values.shape[0] // 2)[:, None, None] & (away < INNER_MM - 1)
    values[half] = 350.0
    thin = with_changed_density(Volume(values, volume.grid), labels, DensityChange(trabecular=np.log(0.6)))
    kept = thin.values / values
    n = values.shape[0] // 2
    assert kept[n + 8, n, n] < kept[n - 8, n, n] - 0.1


def test_metal_and_what_touches_it_keep_their_values(bone):
    volume, labels, _ = bone
    values = volume.values.copy()
    values[26:30, 26:30, 26:30] = 3071.0
    values[25, 26:30, 26:30] = 1500.0
    changed = with_changed_density(Volume(values, volume.grid), labels, DensityChange(left=np.log(0.5)))
    for near in (slice(25, 31), slice(26, 30), slice(26, 30)), (slice(26, 30), slice(25, 31), slice(26, 30)):
        assert np.array_equal(changed.values[near], values[near])
    assert changed.values[10, 28, 28] < values[10, 28, 28]


def test_dense_bone_is_never_made_metal(bone):
    volume, labels, _ = bone
    changed = with_changed_density(volume, labels, DensityChange(cortical=1.5, left=0.5))
    assert changed.values.max() < 2800.0


def test_muscles_and_vessels_are_no_bones():
    grid = Grid((2, 1, 1), np.eye(4))
    labels = LabelMap(np.array([[[1]], [[2]]], np.uint8), grid, {"vertebrae_L3": 1, "aorta": 2})
    assert bones_in(labels) == ["vertebrae_L3"]
