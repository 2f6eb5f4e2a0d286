"""Materials of a CT: attenuation as the Hounsfield scale says, bone hardening the beam, the table gone."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd import units
from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.simulation.basis import CHANNELS, METAL_HU, attenuation_per_mm, decompose, nodes, without_table


def _volume(values):
    values = np.asarray(values, dtype=np.float32)
    return Volume(values, Grid(values.shape, np.diag([2.0, 2.0, 3.0, 1.0])))


def test_attenuation_at_70_kev_is_the_hounsfield_scales():
    hu = np.linspace(-1000, METAL_HU - 1, 500, dtype=np.float32).reshape(5, 10, 10)
    per_mm = decompose(_volume(hu)).amounts @ attenuation_per_mm(np.array([70.0]))[0]
    assert per_mm == pytest.approx(units.attenuation_per_mm_from_hu(hu), abs=2e-6)


def test_padding_and_air_are_nothing():
    amounts = decompose(_volume(np.full((2, 2, 2), -2048.0)), air_hu=-950.0).amounts
    assert not amounts.any()
    assert not decompose(_volume(np.full((2, 2, 2), -960.0)), air_hu=-950.0).amounts.any()


def test_each_tissue_is_itself():
    adipose_hu, soft_hu, per_g_cm3 = nodes()
    hu = [[[adipose_hu, soft_hu, soft_hu + 0.5 * per_g_cm3, METAL_HU + 200]]]
    amounts = decompose(_volume(hu)).amounts[0, 0]
    assert amounts == pytest.approx(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0.5, 0], [0, 0, 0, 1]]), abs=1e-5)
    assert CHANNELS[2] == "bone_mineral"


def test_metal_attenuates_far_more_than_bone():
    at_60 = attenuation_per_mm(np.array([60.0]))[0]
    assert at_60[3] > 5 * (at_60[1] + 1.2 * at_60[2]) * 0.9


def test_the_table_goes_and_the_patient_stays():
    x, y, _ = np.meshgrid(np.arange(80), np.arange(80), np.arange(12), indexing="ij")
    hu = np.full(x.shape, -1000.0, np.float32)
    patient = ((x - 40) / 28.0) ** 2 + ((y - 34) / 18.0) ** 2 < 1
    hu[patient] = 40.0
    hu[((x - 40) / 6.0) ** 2 + ((y - 34) / 5.0) ** 2 < 1] = -990.0
    table = (y >= 57) & (y < 60) & (np.abs(x - 40) < 36)
    hu[table] = 100.0
    cleaned = without_table(_volume(hu)).values
    assert np.all(cleaned[table] == -1000.0)
    assert np.all(cleaned[patient] == hu[patient])


def test_a_real_table_goes_and_no_bone_with_it(shared_data):
    from hierbmd.io.ct import read_volume
    from hierbmd.io.labels import read_labels

    volume = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    labels = read_labels(shared_data / "torso-ct" / "example_ct_totalseg_labels.nii.gz", onto=volume.grid)
    cleaned = without_table(volume).values
    known = labels.ids > 0
    assert np.mean(cleaned[known] == volume.values[known]) > 0.999
