"""The real scan: inserts of a CatPhan 504's sensitometry module, found by the finder of phantoms' rods, and read."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from hierbmd.calibration.phantom import calibrate_by_phantom, read_phantom_rods
from hierbmd.calibration.slices import slices_of
from hierbmd.data.density import Material
from hierbmd.data.phantoms import Phantom, Rod
from hierbmd.errors import Uncalibrated
from hierbmd.io.ct import read_volume

# Name, angle from the image's columns towards its rows, nominal HU, HU range of the maker's manual.
INSERTS = (
    ("air", -90.0, -1000.0, (-1046.0, -986.0)),
    ("PMP", -120.0, -200.0, (-220.0, -172.0)),
    ("LDPE", 180.0, -100.0, (-121.0, -87.0)),
    ("polystyrene", 120.0, -35.0, (-65.0, -29.0)),
    ("acrylic", 60.0, 120.0, (92.0, 137.0)),
    ("Delrin", 0.0, 340.0, (344.0, 387.0)),
    ("Teflon", -60.0, 990.0, (941.0, 1060.0)),
)
"""Nominal values as the module's documentation and pylinac state them; ranges: The Phantom Laboratory, Catphan manual,
"Sensitometry (CT number linearity)", module CTP404. Places: on a circle of 58.7 mm, 12.2 mm wide, as pylinac's."""

WITHIN_HU = 30.0


def catphan(change=lambda angle: angle):
    """The module as a phantom whose "densities" are HU; `change` moves its inserts."""
    rods = []
    for name, angle, hu, _ in INSERTS:
        at = np.radians(change(angle))
        rods.append(Rod(name, hu, 12.2, float(58.7 * np.cos(at)), float(58.7 * np.sin(at))))
    return Phantom("CTP404", Material.HA, tuple(rods), plate_mm=(150.0, 150.0, 25.0))


@pytest.fixture(scope="module")
def scan(shared_data, tmp_path_factory):
    """The part of the cone-beam CT about the module, as a series of DICOM slices."""
    archive = shared_data / "catphan504" / "catphan504_cbct.zip"
    folder = tmp_path_factory.mktemp("catphan")
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if name.endswith(".dcm"):
                (folder / name.rsplit("/", 1)[-1]).write_bytes(files.read(name))
    return read_volume(folder)


def test_the_inserts_are_found_and_read_within_30_hu(scan):
    readings = read_phantom_rods(slices_of(scan), catphan())
    assert readings.read.all()
    assert 4 <= len(readings.slices) <= 12
    for (name, _, nominal, (low, high)), hu in zip(INSERTS, readings.mean_hu.mean(axis=1), strict=True):
        assert hu == pytest.approx(nominal, abs=WITHIN_HU), name
        assert low - WITHIN_HU < hu < high + WITHIN_HU, name


@pytest.mark.slow
def test_the_module_turned_by_one_insert_is_another_one(scan):
    """Inserts in the wrong order: every circle is there, and what they read does not rise as it should."""
    turned = catphan(lambda angle: angle + 60.0)
    try:
        hu = read_phantom_rods(slices_of(scan), turned).mean_hu.mean(axis=1)
    except Uncalibrated:
        return
    # Found all the same: then because the finder has turned the phantom back.
    assert hu == pytest.approx([nominal for _, _, nominal, _ in INSERTS], abs=WITHIN_HU)


@pytest.mark.slow
def test_a_density_phantom_is_not_seen_in_it(scan):
    from hierbmd.data.phantoms import phantom_of_name

    with pytest.raises(Uncalibrated):
        calibrate_by_phantom(scan, phantom_of_name("QRM-BDC-6"))
