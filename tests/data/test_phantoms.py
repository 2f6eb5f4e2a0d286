"""The table of calibration phantoms, and what is refused of a file of one's own."""

from __future__ import annotations

import copy

import pytest

from hierbmd.data.density import Material
from hierbmd.data.phantoms import density_line, phantom_from_json, phantom_names, phantom_of_name, phantom_to_json
from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.io.phantom_file import read_phantom, write_phantom


@pytest.mark.parametrize("name", phantom_names())
def test_every_phantom_of_the_table_is_sound_and_round_trips(name, tmp_path):
    phantom = phantom_of_name(name)
    assert phantom.sources
    write_phantom(tmp_path / "phantom.json", phantom)
    assert read_phantom(tmp_path / "phantom.json") == phantom


def test_the_densities_are_the_published_ones():
    densities = {name: [rod.density_mg_cm3 for rod in phantom_of_name(name).rods] for name in phantom_names()}
    assert densities["B-MAS200"] == [0, 50, 100, 150, 200]
    assert densities["QRM-BDC-3"] == [100, 400, 800]
    assert densities["QRM-BDC-6"] == [0, 100, 200, 400, 600, 800]
    assert densities["Mindways-3"] == [-51.83, -53.40, 58.88, 157.05, 375.83]
    mindways = phantom_of_name("Mindways-3")
    assert mindways.material is Material.K2HPO4
    assert [rod.water_mg_cm3 for rod in mindways.rods] == [1012.25, 1056.95, 1103.57, 1119.52, 923.20]


def test_the_k2hpo4_line_takes_the_displaced_water_into_account():
    """HU = sigma_ct * rho + beta_ct with sigma_ct = 1.5 - 0.2174 and beta_ct = -1000 + 999.6."""
    slope, intercept = density_line(1.5, -1000.0)
    assert slope * (1.2826 * 100.0 - 0.4) + intercept == pytest.approx(100.0)


def _edited(phantom, **changes):
    value = copy.deepcopy(phantom_to_json(phantom_of_name(phantom)))
    value["rods"][1].update(changes)
    return value


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (_edited("B-MAS200", water_mg_cm3=1000.0), BadConfig, "never mixed"),
        (_edited("Mindways-3", water_mg_cm3=None), BadConfig, "never mixed"),
        (_edited("B-MAS200", name="0"), BadConfig, "one name"),
        (_edited("B-MAS200", density_mg_cm3="50"), BadConfig, "rod 50"),
        (_edited("B-MAS200", density_mg_cm3=float("nan")), BadConfig, "not a number"),
        (_edited("B-MAS200", diameter_mm=1.6), SuspectedUnit, "rod 50"),
        (_edited("B-MAS200", x_mm=-70.0), BadConfig, "overlap"),
        (_edited("B-MAS200", y_mm=20.0), BadConfig, "leaves the plate"),
        (_edited("Mindways-3", water_mg_cm3=1.05), SuspectedUnit, "water"),
        ([], BadConfig, "not a phantom"),
        ({"material": "CaHA"}, BadConfig, "material"),
        ({"material": "HA", "rods": []}, BadConfig, "two rods"),
    ],
)
def test_what_cannot_be_right_is_refused(value, error, says):
    with pytest.raises(error, match=says):
        phantom_from_json(value, "mine.json")


def test_densities_in_g_cm3_are_suspected():
    value = phantom_to_json(phantom_of_name("B-MAS200"))
    for rod in value["rods"]:
        rod["density_mg_cm3"] /= 1000.0
    with pytest.raises(SuspectedUnit, match="give mg/cm3"):
        phantom_from_json(value, "mine.json")


def test_an_unknown_name_names_the_known():
    with pytest.raises(BadConfig, match="Mindways-3"):
        phantom_of_name("B-MAS300")
