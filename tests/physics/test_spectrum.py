"""Spectra against half-value layers: those that their generator states, and those of the standard."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.errors import BadConfig
from hierbmd.physics.attenuation import mass_attenuation_cm2_g
from hierbmd.physics.spectrum import (
    Spectrum,
    air_absorption_cm2_g,
    filtrations,
    monoenergetic,
    published_half_value_layers_mm_al,
    tube_spectrum,
)


def test_half_value_layers_are_the_generators_within_two_percent():
    stated = published_half_value_layers_mm_al()
    assert len(stated) >= 15
    for (kvp, filtration), expected in stated.items():
        assert tube_spectrum(kvp, filtration).half_value_layer_mm_al() == pytest.approx(expected, rel=0.02)


RQR_MM_AL = {70: 2.58, 80: 3.01, 90: 3.48, 100: 3.97}
"""IEC 61267:2005, beams as they leave the tube: the standard fixes these layers, not the filtration, which is near
3 mm Al up to 100 kV (the layers to 0.1 mm: University Hospitals Birmingham, X-ray radiation qualities, 2021)."""

RQA = {"RQA5": (70, 21.0, 6.8), "RQA7": (90, 30.0, 9.2), "RQA8": (100, 34.0, 10.1), "RQA9": (120, 40.0, 11.6)}
"""IEC 61267:2005, behind a patient: voltage, mm of aluminium added to RQR, half-value layer in mm Al (as cited widely;
the standard itself is not open)."""


def _behind_aluminium(kvp, added_mm):
    tube = tube_spectrum(kvp, "3.0 mm Al")
    per_mm = 0.2699 * mass_attenuation_cm2_g("aluminium", tube.energy_kev)
    return Spectrum(tube.energy_kev, tube.fluence * np.exp(-added_mm * per_mm), "")


@pytest.mark.parametrize("kvp", list(RQR_MM_AL))
def test_half_value_layers_at_the_tube_are_the_standards_within_five_percent(kvp):
    assert tube_spectrum(kvp, "3.0 mm Al").half_value_layer_mm_al() == pytest.approx(RQR_MM_AL[kvp], rel=0.05)


@pytest.mark.parametrize("quality", list(RQA))
def test_half_value_layers_behind_a_patient_are_the_standards_within_two_percent(quality):
    kvp, added_mm, expected = RQA[quality]
    assert _behind_aluminium(kvp, added_mm).half_value_layer_mm_al() == pytest.approx(expected, rel=0.02)


def test_a_microgray_of_rqa5_has_the_photons_of_the_standard():
    """30 174 per mm2 and uGy (IEC 62220-1); air kerma is fluence x energy x mu_en / rho."""
    beam = _behind_aluminium(70, 21.0)
    joule_cm2_g = np.sum(beam.fluence * beam.energy_kev * air_absorption_cm2_g(beam.energy_kev)) * 1.602177e-16
    gray_mm2 = joule_cm2_g * 1e3 * 1e2 / beam.fluence.sum()
    assert 1e-6 / gray_mm2 == pytest.approx(30_174, rel=0.05)


def test_the_screen_absorbs_as_much_of_rqa5_as_half_a_millimetre_of_csi_does():
    beam = _behind_aluminium(70, 21.0)
    assert np.sum(beam.signal() / beam.energy_kev) / beam.fluence.sum() == pytest.approx(0.85, abs=0.02)


def test_half_value_layer_at_80_kvp_is_a_clinical_tubes():
    """IEC 60601-1-3 asks for at least 2.9 mm Al at 80 kVp; 3 mm of aluminium gives about 3."""
    assert tube_spectrum(80, "3.0 mm Al").half_value_layer_mm_al() == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("filtration", filtrations())
def test_no_photon_is_above_the_tube_voltage_and_harder_beams_follow_it(filtration):
    means = []
    for kvp in (70, 77.5, 84, 90):
        spectrum = tube_spectrum(kvp, filtration)
        assert spectrum.energy_kev[spectrum.fluence > 0].max() <= kvp
        means.append(spectrum.mean_kev)
    assert means == sorted(means)
    assert 0.5 < means[0] / 70 < 0.75


def test_an_untabulated_voltage_lies_between_its_neighbours():
    between = tube_spectrum(82.5, "3.0 mm Al").half_value_layer_mm_al()
    low, high = (tube_spectrum(v, "3.0 mm Al").half_value_layer_mm_al() for v in (80, 85))
    assert low < between < high


def test_characteristic_lines_stand_out_above_the_tungsten_k_edge():
    """K lines of tungsten at 58-59 keV appear with 90 kVp and not with 70 kVp less than the K edge of 69.5 keV."""
    high = tube_spectrum(90, "3.0 mm Al")
    line, beside = np.interp([59, 63], high.energy_kev, high.fluence)
    assert line > 1.15 * beside


def test_weights_sum_to_one():
    assert tube_spectrum(80, "3.0 mm Al").weights().sum() == pytest.approx(1.0)
    assert monoenergetic(70.0).weights() == pytest.approx([1.0])


@pytest.mark.parametrize(("kvp", "filtration"), [(80, "2 mm lead"), (30, "3.0 mm Al"), (80_000, "3.0 mm Al")])
def test_what_the_table_does_not_hold_is_refused(kvp, filtration):
    with pytest.raises(BadConfig):
        tube_spectrum(kvp, filtration)
