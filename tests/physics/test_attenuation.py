"""Attenuation tables against NIST figures, and the materials made of them."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd import units
from hierbmd.errors import BadConfig
from hierbmd.physics.attenuation import (
    adipose_per_mm,
    bone_per_mm_per_g_cm3,
    mass_attenuation_cm2_g,
    phantom_hu_per_mg_cm3,
    soft_tissue_per_mm,
)

NIST_CM2_G = {
    "water": {20: 0.8096, 30: 0.3756, 40: 0.2683, 50: 0.2269, 60: 0.2059, 80: 0.1837, 100: 0.1707, 150: 0.1505},
    "soft_tissue": {20: 0.8230, 30: 0.3790, 40: 0.2688, 50: 0.2264, 60: 0.2048, 80: 0.1823, 100: 0.1693, 150: 0.1492},
    "adipose": {20: 0.5677, 30: 0.3063, 40: 0.2396, 50: 0.2123, 60: 0.1974, 80: 0.1800, 100: 0.1688, 150: 0.1500},
    "muscle": {60: 0.2048, 80: 0.1823},
    "blood": {60: 0.2057, 80: 0.1827},
    "cortical_bone": {40: 0.6655, 60: 0.3148, 80: 0.2229, 100: 0.1855},
    "aluminium": {20: 3.441, 30: 1.128, 40: 0.5685, 50: 0.3681, 60: 0.2778, 80: 0.2018, 100: 0.1704, 150: 0.1378},
}
"""NIST Standard Reference Database 126 (Hubbell & Seltzer), mass attenuation with coherent scattering."""

NIST_CORTICAL_BONE_CM2_G = {40: 0.6655, 60: 0.3148, 80: 0.2229, 100: 0.1855}


@pytest.mark.parametrize("material", list(NIST_CM2_G))
def test_mass_attenuation_is_nist_within_one_percent(material):
    for energy_kev, expected in NIST_CM2_G[material].items():
        assert mass_attenuation_cm2_g(material, energy_kev) == pytest.approx(expected, rel=0.01)


def test_apatite_and_matrix_make_nist_cortical_bone():
    """ICRU 44 cortical bone holds 22.5 % calcium: 0.564 of it is apatite; the rest is matrix and water."""
    for energy_kev, expected in NIST_CORTICAL_BONE_CM2_G.items():
        mixed = sum(
            share * mass_attenuation_cm2_g(material, energy_kev)
            for material, share in (("hydroxyapatite", 0.564), ("collagen", 0.24), ("water", 0.196))
        )
        assert mixed == pytest.approx(expected, rel=0.02)


def test_water_at_70_kev_is_the_constant_of_the_hounsfield_scale():
    assert 0.1 * mass_attenuation_cm2_g("water", 70.0) == pytest.approx(units.MU_WATER_PER_MM, rel=1e-3)


def test_soft_tissue_and_fat_have_their_hounsfield_units():
    def hu(per_mm):
        return 1000 * (per_mm / units.MU_WATER_PER_MM - 1)

    assert 40 < hu(soft_tissue_per_mm(70.0)) < 65
    assert -115 < hu(adipose_per_mm(70.0)) < -80


def test_a_phantom_scanner_shows_the_published_slope():
    """HA phantoms at 120 kVp calibrate to 0.7-0.9 mg/cm3 per HU."""
    assert 0.7 < 1 / phantom_hu_per_mg_cm3() < 0.9


def test_compact_bone_has_the_attenuation_of_nist_cortical_bone():
    """1.15 g/cm3 of mineral in soft tissue is ICRU 44 cortical bone at 1.92 g/cm3, 0.3148 cm2/g at 60 keV."""
    per_mm = soft_tissue_per_mm(60.0) + 1.15 * bone_per_mm_per_g_cm3(60.0)
    assert per_mm == pytest.approx(0.1 * 1.92 * 0.3148, rel=0.06)


def test_bone_hardens_the_beam_more_than_soft_tissue():
    energies = np.array([40.0, 80.0])
    bone, soft = bone_per_mm_per_g_cm3(energies), soft_tissue_per_mm(energies)
    assert bone[0] / bone[1] > 2.5
    assert soft[0] / soft[1] < 1.6


@pytest.mark.parametrize(("material", "energy_kev"), [("plutonium", 60.0), ("water", 5.0), ("water", 60_000.0)])
def test_unknown_materials_and_energies_are_refused(material, energy_kev):
    with pytest.raises(BadConfig):
        mass_attenuation_cm2_g(material, energy_kev)
