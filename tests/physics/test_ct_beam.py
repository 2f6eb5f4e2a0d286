"""The Hounsfield scale of a CT beam: water stays, bone and fat move with voltage and body size."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.errors import BadConfig
from hierbmd.physics.attenuation import HYDROXYAPATITE_G_CM3, mass_attenuation_cm2_g, phantom_hu_per_mg_cm3
from hierbmd.physics.ct_beam import CT_FILTRATION, ct_beam, nominal_beam
from hierbmd.physics.spectrum import tube_spectrum


def test_the_nominal_beam_is_the_attenuation_table_at_70_kev():
    assert nominal_beam().hydroxyapatite_hu_per_mg_cm3 == pytest.approx(phantom_hu_per_mg_cm3())
    assert nominal_beam().effective_kev == pytest.approx(70.0, abs=0.2)


def test_a_mineral_is_the_slope_of_the_log_signal_behind_the_body():
    """Beer's law through 235.6 mm of water, with and without a thin layer more: what a projection gains of each."""
    spectrum = tube_spectrum(120, CT_FILTRATION)
    water, mineral = (mass_attenuation_cm2_g(name, spectrum.energy_kev) for name in ("water", "hydroxyapatite"))
    detected = spectrum.fluence * spectrum.energy_kev

    def log_signal(water_cm, mineral_g_cm2):
        return -np.log(np.sum(detected * np.exp(-water * water_cm - mineral * mineral_g_cm2)))

    body_cm, thin = 30.0 * np.pi / 4.0, 1e-4
    by_water = log_signal(body_cm + thin, 0.0) - log_signal(body_cm, 0.0)
    by_mineral = log_signal(body_cm, thin) - log_signal(body_cm, 0.0)
    expected = by_mineral / by_water - 1.0 / HYDROXYAPATITE_G_CM3
    assert ct_beam(120, 300.0).hydroxyapatite_hu_per_mg_cm3 == pytest.approx(expected, rel=1e-4)


def test_bone_reads_lower_at_higher_voltages_and_in_larger_bodies():
    slopes = [ct_beam(kvp, 300.0).hydroxyapatite_hu_per_mg_cm3 for kvp in (80, 100, 120, 140)]
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[0] / slopes[2] == pytest.approx(1.4, abs=0.1)
    assert (
        ct_beam(120, 250.0).hydroxyapatite_hu_per_mg_cm3 > slopes[2] > ct_beam(120, 350.0).hydroxyapatite_hu_per_mg_cm3
    )


def test_fat_falls_at_low_voltage_and_soft_tissue_hardly_moves():
    assert ct_beam(80, 300.0).adipose_hu < ct_beam(120, 300.0).adipose_hu - 10
    assert ct_beam(80, 300.0).soft_tissue_hu == pytest.approx(ct_beam(140, 300.0).soft_tissue_hu, abs=5)


def test_ha_and_k2hpo4_do_not_move_alike():
    """The ratio of the two scales changes with voltage, so that no factor turns one into the other."""
    ratios = [
        beam.dipotassium_phosphate_over_water / beam.hydroxyapatite_hu_per_mg_cm3
        for beam in (ct_beam(80, 300.0), ct_beam(140, 300.0))
    ]
    assert ratios[1] / ratios[0] > 1.05


@pytest.mark.parametrize("kvp", [60, 79, 141, 120_000])
def test_other_voltages_are_refused(kvp):
    with pytest.raises(BadConfig):
        ct_beam(kvp, 300.0)
