"""Conversions against figures worked out by hand."""

import numpy as np
import pytest

from hierbmd import units


def test_areal_density_of_a_slab_is_density_times_thickness():
    # 1 g/cm3 = 1000 mg/cm3 over 1 cm = 10 mm is 1 g/cm2.
    assert pytest.approx(1.0) == 1000.0 * 10.0 * units.G_CM2_PER_MG_CM3_MM


def test_water_air_and_padding_attenuate_as_the_hounsfield_scale_says():
    per_mm = units.attenuation_per_mm_from_hu(np.array([0.0, units.AIR_HU, -2048.0, 1000.0]))
    np.testing.assert_allclose(per_mm, [units.MU_WATER_PER_MM, 0.0, 0.0, 2 * units.MU_WATER_PER_MM])


def test_density_follows_the_calibration_line_and_is_never_negative():
    density = units.density_mg_cm3_from_hu(np.array([-1000.0, 0.0, 100.0]), slope=0.8, intercept=5.0)
    np.testing.assert_allclose(density, [0.0, 5.0, 85.0])
