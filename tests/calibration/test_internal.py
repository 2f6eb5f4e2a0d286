"""Calibration by the patient's own tissues: what they must read, the line that follows, and refusals (FAULTS 9, 23)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.calibration.internal import calibrate_internally, fit_tissues, tissue_hu
from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.calibration.source import calibration_from
from hierbmd.calibration.tissues import TissueReading, Tissues, read_tissues
from hierbmd.data.density import Material
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import TissuesNotFound, Uncalibrated
from hierbmd.geometry import Grid
from hierbmd.io.calibration_file import read_calibration, write_calibration
from hierbmd.io.ct import read_kvp
from hierbmd.io.dicom_write import CtAcquisition, write_ct_dicom
from hierbmd.physics.ct_beam import ct_beam, density_lines

NAMES = ("air", "fat", "muscle", "blood", "cortical_bone")


def tissues_at(energy_kev, *, gain=1.0, offset_hu=0.0, **off_hu):
    """What ICRU tissues read on a scale at an energy; a tissue named in `off_hu` reads so many HU more, None: none."""
    readings, missing = {}, {}
    for name in NAMES:
        if off_hu.get(name, 0.0) is None:
            missing[name] = "not in the scan"
            continue
        hu = (tissue_hu(name, energy_kev) + 1000.0) * gain - 1000.0 + offset_hu + off_hu.get(name, 0.0)
        readings[name] = TissueReading(name, hu, 10.0, 1000, "label")
    return Tissues(readings, missing, 300.0)


def test_tissues_read_what_nist_says():
    """Whole blood and cortical bone at 60 keV by hand: 1.06 x 0.2057 and 1.92 x 0.3148 over 0.2059 cm2/g."""
    assert tissue_hu("blood", 60.0) == pytest.approx(1000.0 * (1.06 * 0.2057 / 0.2059 - 1.0), abs=2.0)
    assert tissue_hu("cortical_bone", 60.0) == pytest.approx(1000.0 * (1.92 * 0.3148 / 0.2059 - 1.0), abs=5.0)
    assert tissue_hu("fat", 70.0) == pytest.approx(-96.0, abs=1.0)
    assert tissue_hu("air", 70.0) == -1000.0


@pytest.mark.parametrize("material", list(Material))
@pytest.mark.parametrize("kvp", [80.0, 100.0, 120.0, 140.0])
def test_the_line_is_that_of_the_beam_that_the_tissues_tell(kvp, material):
    """Fat and bone as a polychromatic beam has them: one energy explains both, and the line is the beam's own."""
    beam = ct_beam(kvp, 300.0)
    read = {"air": -1000.0, "fat": beam.adipose_hu, "muscle": 1000.0 * (1.05 * beam.over_water("muscle") - 1.0)}
    read["cortical_bone"] = 1000.0 * (1.92 * beam.over_water("cortical_bone") - 1.0)
    tissues = Tissues({n: TissueReading(n, hu, 10.0, 1000, "label") for n, hu in read.items()}, {"blood": ""}, 300.0)
    for known in (None, kvp):
        found = fit_tissues(tissues, material=material, kvp=known)
        true = density_lines(beam)[material]
        assert found.slope == pytest.approx(true.slope, rel=0.01)
        assert found.intercept == pytest.approx(true.intercept, abs=2.0)
        assert found.method == "internal"
        assert found.material is material


def test_a_scale_that_is_off_is_found_in_part():
    """Gain and zero are held by what a scanner is trusted to; the tissues move them most of the way."""
    found = fit_tissues(tissues_at(70.0, gain=1.004, offset_hu=3.0))
    true = density_lines(ct_beam(120.0, 300.0), gain=1.004, offset_hu=3.0)[Material.HA]
    assert found.slope == pytest.approx(true.slope, rel=0.05)
    assert found.intercept == pytest.approx(true.intercept, abs=4.0)
    assert abs(found.intercept) > 1.0


def test_the_error_covers_what_people_differ_by_and_the_voltage_narrows_it():
    rng = np.random.default_rng(5)
    plain = fit_tissues(tissues_at(69.6))
    narrow = fit_tissues(tissues_at(69.6), kvp=120.0)
    assert 0.05 * plain.slope < plain.uncertainty.slope_se < 0.15 * plain.slope
    assert narrow.uncertainty.slope_se < 0.7 * plain.uncertainty.slope_se
    inside = 0
    for _ in range(40):
        off = {"fat": rng.normal(0, 5), "muscle": rng.normal(0, 8), "blood": rng.normal(0, 8), "air": rng.normal(0, 3)}
        try:
            found = fit_tissues(tissues_at(69.6, cortical_bone=rng.normal(0, 200), **off))
        except TissuesNotFound:
            continue
        inside += found.uncertainty.slope_low <= plain.slope <= found.uncertainty.slope_high
    assert inside >= 34


@pytest.mark.parametrize("name", ["fat", "muscle", "cortical_bone"])
def test_without_a_tissue_that_is_needed_there_is_no_line(name):
    with pytest.raises(TissuesNotFound, match=f"no {name.replace('_', ' ')}"):
        fit_tissues(tissues_at(70.0, **{name: None}))


def test_air_and_blood_may_be_missing_and_are_said_to_be():
    found = fit_tissues(tissues_at(70.0, air=None, blood=None))
    assert any("blood not used" in note for note in found.notes)
    assert any("less sure" in note for note in found.notes)
    assert {one["name"] for one in found.tissues} == {"fat", "muscle", "cortical_bone"}


@pytest.mark.parametrize(
    ("off", "why"),
    [
        ({"muscle": 60.0}, "muscle reads"),
        ({"fat": 30.0, "cortical_bone": 700.0}, "reads|no beam"),
        ({"fat": -45.0}, "reads|no beam"),
        ({"fat": 45.0, "cortical_bone": -800.0}, "reads|no beam"),
    ],
)
def test_tissues_that_contradict_each_other_are_refused(off, why):
    with pytest.raises(TissuesNotFound, match=why):
        fit_tissues(tissues_at(70.0, **off))


def test_a_calibration_by_tissues_comes_back_from_its_file_marked(tmp_path):
    found = fit_tissues(tissues_at(66.0))
    write_calibration(tmp_path / "calibration.json", found)
    assert read_calibration(tmp_path / "calibration.json") == found
    assert found.qct_source == "qct (internal calibration)"
    assert replace(found, method="phantom").qct_source == "qct"


# Body, fat and bone of a torso at 120 kVp, by the simulated scanner; the phantom of the same scan beside it.


def test_a_simulated_scan_by_its_own_tissues_against_its_phantom(scan_of):
    """Its cortex of 900 mg/cm3 reads a sixth below ICRU's: the error says so, and the voltage takes most of it off."""
    scan = scan_of("B-MAS200")
    by_phantom = calibrate_by_phantom(scan.volume, scan.phantom.phantom)
    by_tissues = calibration_from("internal", scan.volume)
    with_kvp = calibrate_internally(scan.volume, kvp=120.0)
    for one in (by_tissues, with_kvp):
        assert one.uncertainty.slope_low < by_phantom.slope < one.uncertainty.slope_high
        assert one.intercept == pytest.approx(by_phantom.intercept, abs=10.0)
        assert all(tissue["found"] == "HU" for tissue in one.tissues)
    assert with_kvp.slope == pytest.approx(by_phantom.slope, rel=0.06)
    assert abs(with_kvp.slope - by_phantom.slope) < 0.6 * abs(by_tissues.slope - by_phantom.slope)


def _labelled(volume, hu, name, *, blood_at=None):
    """A label of the tissue's own voxels, and one of a vessel that is a box."""
    ids = np.zeros(volume.grid.shape, np.uint8)
    ids[np.abs(volume.values - hu) < 60.0] = TOTALSEGMENTATOR_V2[name]
    if blood_at is not None:
        ids[blood_at] = TOTALSEGMENTATOR_V2["aorta"]
    return LabelMap(ids, volume.grid, TOTALSEGMENTATOR_V2)


@pytest.fixture(scope="module")
def body():
    """Water's body of 240 x 180 mm: fat rim, muscle at 48 HU, a vessel at 45, two bones; noise of 10 HU, air around."""
    x, y = np.meshgrid(np.arange(-140.0, 141.0, 2.0), np.arange(-110.0, 111.0, 2.0), indexing="ij")
    radius = np.hypot(x / 120.0, y / 90.0)
    image = np.where(radius < 0.8, 48.0, np.where(radius < 1.0, -100.0, -1000.0))
    image[np.hypot(x, y + 30.0) < 14.0] = 45.0
    for middle in (-50.0, 50.0):
        image[np.hypot(x - middle, y) < 16.0] = 1500.0
        image[np.hypot(x - middle, y) < 6.0] = 0.0
    values = np.repeat(image[:, :, None], 6, axis=2) + np.random.default_rng(2).normal(0.0, 10.0, (*image.shape, 6))
    return Volume(values.astype(np.float32), Grid(values.shape, np.diag([2.0, 2.0, 5.0, 1.0])))


def test_tissues_are_read_by_their_hu(body):
    read = read_tissues(body).readings
    assert read["air"].hu == pytest.approx(-1000.0, abs=1.0)
    assert read["fat"].hu == pytest.approx(-100.0, abs=1.5)
    assert read["muscle"].hu == pytest.approx(48.0, abs=1.5)
    assert read["cortical_bone"].hu == pytest.approx(1500.0, abs=25.0)
    assert "blood" not in read


def test_labels_say_where_blood_is(body):
    vessel = np.zeros(body.grid.shape, bool)
    vessel[62:78, 32:48] = True
    labels = _labelled(body, 48.0, "gluteus_maximus_left", blood_at=vessel)
    read = read_tissues(body, labels)
    assert read.readings["blood"].hu == pytest.approx(45.5, abs=2.5)
    assert (read.readings["muscle"].found, read.readings["fat"].found) == ("label", "HU")
    # With contrast medium the vessel is left out, and the line says so.
    bright = Volume(np.where(vessel, body.values + 120.0, body.values).astype(np.float32), body.grid)
    read = read_tissues(bright, labels)
    assert "not 5 to 100" in read.missing["blood"]
    assert any("blood not used" in note for note in fit_tissues(read).notes)


def test_what_is_no_patient_is_refused(body):
    for values in (np.full_like(body.values, -1000.0), body.values * 0.0 + 40.0, np.clip(body.values, -1000.0, 300.0)):
        with pytest.raises(TissuesNotFound):
            calibrate_internally(Volume(values, body.grid))
    with pytest.raises(Uncalibrated, match="not HU"):
        calibrate_internally(Volume(body.values, body.grid, "mg/cm3 HA"))


def test_values_with_an_offset_are_refused(body):
    """Raw values 1024 above HU (FAULTS 9), and a scale ten per cent too steep."""
    for values in (body.values + 1024.0, 1.1 * (body.values + 1000.0) - 1000.0):
        with pytest.raises(TissuesNotFound):
            calibrate_internally(Volume(values.astype(np.float32), body.grid))


def test_air_that_is_cut_off_is_not_used(body):
    cut = Volume(np.maximum(body.values, -1000.0), body.grid)
    read = read_tissues(cut)
    assert "cut off at -1000" in read.missing["air"]


@pytest.mark.parametrize(("stated", "used"), [(120.0, 120.0), (70.0, None), (None, None)])
def test_the_voltage_that_a_dicom_series_states_is_used(body, tmp_path, stated, used):
    write_ct_dicom(tmp_path / "series", body, acquisition=CtAcquisition(kvp=stated))
    assert read_kvp(tmp_path / "series") == stated
    found = calibration_from("internal", body, ct=tmp_path / "series")
    assert found == calibrate_internally(body, kvp=used)
    assert read_kvp(tmp_path / "ct.nii.gz") is None
