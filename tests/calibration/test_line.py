"""Given calibration lines: applied as written, refused when their unit is doubtful (FAULTS 22, 23)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hierbmd.calibration.line import density_volume, given_calibration
from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import Volume
from hierbmd.errors import HierbmdError, SuspectedUnit, Uncalibrated
from hierbmd.geometry import Grid
from hierbmd.io.calibration_file import read_calibration, write_calibration

HU = Volume(np.array([-1000.0, 0.0, 100.0, 1000.0], np.float32).reshape(4, 1, 1), Grid((4, 1, 1), np.eye(4)))


def test_density_is_the_line_and_never_below_zero():
    density = density_volume(HU, given_calibration(0.8, 5.0))
    assert density.values.ravel() == pytest.approx([0.0, 5.0, 85.0, 805.0])
    assert density.unit == "mg/cm3 HA"
    assert density_volume(HU, given_calibration(0.8, 5.0, material=Material.K2HPO4)).unit == "mg/cm3 K2HPO4"


def test_a_density_stays_as_it_is_in_its_own_material_only():
    density = density_volume(HU, given_calibration(0.8, 5.0))
    assert density_volume(density, given_calibration(0.7, 0.0)) is density
    with pytest.raises(Uncalibrated, match="never mixed"):
        density_volume(density, given_calibration(0.7, 0.0, material=Material.K2HPO4))
    with pytest.raises(Uncalibrated, match=r"in 1/mm"):
        density_volume(Volume(HU.values, HU.grid, "1/mm"), given_calibration(0.7, 0.0))


@pytest.mark.parametrize(
    ("slope", "intercept", "why"),
    [
        (0.0008, 0.0, "multiply by 1000"),
        (800.0, 0.0, "another unit"),
        (-0.8, 0.0, "another unit"),
        (float("nan"), 0.0, "slope nan"),
        (0.8, -1024.0, "offset"),
        (0.8, float("inf"), "intercept inf"),
    ],
)
def test_a_line_in_another_unit_is_suspected(slope, intercept, why):
    with pytest.raises(SuspectedUnit, match=why):
        given_calibration(slope, intercept)


def test_a_calibration_comes_back_from_its_file(tmp_path):
    rods = ({"name": "100", "density_mg_cm3": 100.0, "hu": 121.5},)
    calibration = Calibration(0.812, -3.4, Material.K2HPO4, "phantom", 1.2, rods)
    write_calibration(tmp_path / "calibration.json", calibration)
    assert read_calibration(tmp_path / "calibration.json") == calibration
    stored = json.loads((tmp_path / "calibration.json").read_text())
    assert stored["unit"] == "mg/cm3"
    assert "slope" in stored["equation"]


GOOD = {"slope": 0.8, "intercept": 0.0, "material": "HA"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({**GOOD, "material": None}, "material"),
        ({"slope": 0.8, "intercept": 0.0}, "material"),
        ({**GOOD, "slope": "0.8"}, "slope"),
        ({"intercept": 0.0, "material": "HA"}, "slope"),
        ({**GOOD, "intercept": True}, "intercept"),
        ({**GOOD, "unit": "g/cm3"}, "g/cm3"),
        ([1, 2], "not a calibration file"),
    ],
)
def test_a_file_that_says_too_little_is_refused(tmp_path, content, why):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    with pytest.raises(HierbmdError, match=why) as refused:
        read_calibration(path)
    assert "calibration.json" in str(refused.value)
    path.write_text('{"slope": NaN, "intercept": 0, "material": "HA"}')
    with pytest.raises(Uncalibrated, match="slope is nan"):
        read_calibration(path)
