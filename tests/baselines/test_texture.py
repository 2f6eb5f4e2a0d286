"""Texture features against the published values of the IBSI digital phantom."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.baselines.radiomics.texture import texture_features

pytest.importorskip("mirp", reason="texture features need mirp: pip install 'hierbmd[radiomics]'")

OUT = 0
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [OUT, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, OUT, OUT], [1, 1, 1, 1, 1], [1, 1, OUT, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, OUT, OUT], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    dtype=np.float32,
)
"""The IBSI digital phantom, four slices of 4 x 5 voxels; OUT is outside its region."""

FIRST_ORDER = {
    **{"stat_mean": 2.15, "stat_var": 3.05, "stat_skew": 1.08, "stat_kurt": -0.355, "stat_median": 1.0},
    **{"stat_p10": 1.0, "stat_p90": 4.0, "stat_iqr": 3.0, "stat_mad": 1.55, "stat_rmad": 1.11, "stat_cov": 0.812},
    **{"stat_qcod": 0.6, "stat_energy": 567.0, "stat_rms": 2.77},
}
BY_SLICE = {
    **{"cm_joint_max": 0.512, "cm_joint_avg": 2.14, "cm_joint_var": 2.71, "cm_joint_entr": 2.24},
    **{"cm_contrast": 5.19, "cm_dissimilarity": 1.40, "cm_inv_diff": 0.683, "cm_corr": 0.0173, "cm_energy": 0.352},
    **{"rlm_sre": 0.661, "rlm_lre": 3.51, "rlm_r_perc": 0.627},
    **{"szm_sze": 0.363, "szm_lze": 43.9},
    **{"ngl_lde": 0.158, "ngl_hde": 19.2, "ngl_lgce": 0.702, "ngl_hgce": 7.49},
    **{"ngt_coarseness": 0.121, "ngt_contrast": 0.925, "ngt_busyness": 2.99, "ngt_complexity": 10.4},
    **{"ngt_strength": 2.88},
}
"""Published (IBSI reference manual, arXiv 1612.07003) to three digits: "2D, slice-merged" or, without directions, "2D":
the mean over the slices."""


def three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def test_the_phantom_s_first_order_features():
    flat = PHANTOM.reshape(16, 5)  # where a voxel lies is of no matter here
    found = texture_features(flat, flat > OUT, pixel_mm=(2.0, 2.0), bins=6)
    assert {name: three_digits(found[name]) for name in FIRST_ORDER} == FIRST_ORDER


def test_the_phantom_s_textures_slice_by_slice():
    """Six bins between a slice's extremes, 1 and 6, are its grey levels themselves."""
    slices = [texture_features(one, one > OUT, pixel_mm=(2.0, 2.0), bins=6) for one in PHANTOM]
    found = {name: three_digits(float(np.mean([one[name] for one in slices]))) for name in BY_SLICE}
    assert found == BY_SLICE


def test_every_family_is_there_and_exposure_changes_no_texture():
    random = np.random.default_rng(0)
    pixels = random.normal(0, 1, (20, 16)).astype(np.float32)
    region = np.zeros((20, 16), dtype=bool)
    region[3:17, 4:12] = True
    plain = texture_features(pixels, region, pixel_mm=(1.5, 1.5), bins=8)
    brighter = texture_features(pixels * np.float32(4) + np.float32(2), region, pixel_mm=(1.5, 1.5), bins=8)
    counts = {prefix: sum(name.startswith(prefix) for name in plain) for prefix in ("stat_", "cm_", "rlm_", "szm_")}
    counts |= {prefix: sum(name.startswith(prefix) for name in plain) for prefix in ("ngl_", "ngt_")}
    assert counts == {"stat_": 18, "cm_": 25, "rlm_": 16, "szm_": 16, "ngl_": 17, "ngt_": 5}
    textures = [name for name in plain if not name.startswith("stat_")]
    assert [brighter[name] for name in textures] == pytest.approx([plain[name] for name in textures], rel=1e-9)
    outside = pixels.copy()
    outside[~region] = 99.0
    assert texture_features(outside, region, pixel_mm=(1.5, 1.5), bins=8) == plain


def test_a_region_without_texture_has_none():
    pixels = np.ones((20, 16), dtype=np.float32)
    region = np.zeros((20, 16), dtype=bool)
    assert texture_features(pixels, region, pixel_mm=(1.0, 1.0), bins=8) == {}
    region[2:12, 2:12] = True
    assert texture_features(pixels, region, pixel_mm=(1.0, 1.0), bins=8) == {}
