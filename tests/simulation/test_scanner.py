"""A QCT scan: each effect alone does what it says, the truth follows, and our readers get it back unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from hierbmd.data.density import Material
from hierbmd.data.phantoms import phantom_of_name
from hierbmd.data.volume import Volume
from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import DicomOptions, write_ct_dicom
from hierbmd.io.image import write_volume
from hierbmd.io.phantom_file import write_phantom
from hierbmd.parallel import in_processes
from hierbmd.physics.ct_beam import ct_beam
from hierbmd.rigid import transform_points
from hierbmd.simulation.ct_kernel import KERNELS, noise_covariance, noise_gain
from hierbmd.simulation.ct_layout import in_field
from hierbmd.simulation.options import ScanOptions, preset_scan
from hierbmd.simulation.scan_truth import acquisition_of, scan_truth
from hierbmd.simulation.scanner import scan

DIAMETER_MM, BONE_MG_CM3 = 200.0, 300.0
SMALL = {"pixel_mm": 1.5, "interval_mm": 8.0, "thickness_mm": 8.0}


def _cylinder(diameter_mm=DIAMETER_MM, spacing_mm=2.0, height=12):
    """Water with a core of bone, 40 mm wide, at the isocentre; edges by their distance."""
    n = int(diameter_mm / spacing_mm / 2) + 6
    axis = spacing_mm * np.arange(-n, n + 1)
    radius = np.hypot(axis[:, None], axis[None, :])
    share = [np.clip(0.5 + (half - radius) / spacing_mm, 0, 1) for half in (diameter_mm / 2, 20.0)]
    matrix = np.diag([spacing_mm, spacing_mm, 4.0, 1.0])
    matrix[:3, 3] = axis[0], axis[0], 100.0
    grid = Grid((len(axis), len(axis), height), matrix)
    density = np.repeat((BONE_MG_CM3 * share[1])[:, :, None], height, axis=2).astype(np.float32)
    body = np.repeat((1000.0 * share[0] - 1000.0)[:, :, None], height, axis=2) + 1.3072555 * density
    return SimpleNamespace(body=Volume(body.astype(np.float32), grid), density=Volume(density, grid, "mg/cm3 HA"))


@pytest.fixture(scope="module")
def cylinder():
    return _cylinder()


def _at(found, radius_mm, width_mm):
    """The values of a scan's pixels within half a width of a radius about the isocentre."""
    grid = found.volume.grid
    x, y = (grid.world_from_index[a, 3] + grid.spacing_mm[a] * np.arange(grid.shape[a]) for a in range(2))
    return found.volume.values[np.abs(np.hypot(x[:, None], y[None, :]) - radius_mm) < width_mm / 2.0]


def _rod_values(found, share=0.6):
    """The values inside each rod, well within its rim, slice by slice: (rod name, k) to values."""
    grid, values = found.volume.grid, {}
    x, y = (grid.world_from_index[a, 3] + grid.spacing_mm[a] * np.arange(grid.shape[a]) for a in range(2))
    for rod in found.phantom.phantom.rods:
        first, last = found.phantom.axis_world_mm(rod)
        for k in range(grid.shape[2]):
            z = grid.world_from_index[2, 3] + k * grid.spacing_mm[2]
            along = (z - first[2]) / (last[2] - first[2])
            if 0.05 < along < 0.95:
                centre = first + along * (last - first)
                inside = np.hypot(x[:, None] - centre[0], y[None, :] - centre[1]) < share * rod.diameter_mm / 2.0
                values[rod.name, k] = found.volume.values[:, :, k][inside]
    return values


def test_without_an_effect_the_scan_is_the_body(patient):
    found = scan(patient)
    assert found.volume.grid == patient.body.grid
    expected = np.maximum(patient.body.values, -1024.0)
    assert np.abs(found.volume.values - expected).max() <= 0.501
    assert found.phantom is None
    assert found.beyond_field == 0.0


@pytest.mark.parametrize("kvp", [80.0, 120.0])
def test_water_reads_zero_and_bone_by_the_beam(cylinder, kvp):
    found = scan(cylinder, ScanOptions(kvp=kvp))
    # 200 mm of water with the bone's 20 % more over a disc of 40 mm.
    size = float(found.scale.water_diameters_mm[3])
    core = 1.0 + 1.3072555 * BONE_MG_CM3 / 1000.0
    assert size == pytest.approx(np.sqrt(DIAMETER_MM**2 + (core - 1.0) * 40.0**2), rel=2e-3)
    beam = ct_beam(kvp, size)
    assert _at(found, 60.0, 40.0).mean() == pytest.approx(0.0, abs=0.5)
    assert _at(found, 0.0, 20.0).mean() == pytest.approx(BONE_MG_CM3 * beam.hydroxyapatite_hu_per_mg_cm3, abs=0.6)
    line = found.lines[Material.HA]
    assert line.slope * _at(found, 0.0, 20.0).mean() + line.intercept == pytest.approx(BONE_MG_CM3, abs=0.5)


@pytest.mark.parametrize("name", ["B-MAS200", "QRM-BDC-3", "QRM-BDC-6", "Mindways-3"])
def test_the_rods_read_what_the_truth_says(cylinder, name):
    options = ScanOptions(phantom=name, serial=4, kvp=100.0, phantom_tilt_deg=2.0, phantom_shift_mm=5.0, table=True)
    found = scan(cylinder, replace(options, kernel="soft", **SMALL), 3)
    truth = {rod["name"]: rod["hu"] for rod in scan_truth(found)["phantom"]["rods"]}
    assert len(truth) == len(phantom_of_name(name).rods)
    for (rod, _), values in _rod_values(found, share=0.5).items():
        assert values.mean() == pytest.approx(truth[rod], abs=2.0)


def test_phantom_and_table_lie_under_the_patient(patient):
    found = scan(patient, ScanOptions(phantom="B-MAS200", phantom_tilt_deg=2.0, table=True), 1)
    lowest = np.where((patient.body.values > -300.0).any(axis=(0, 2)))[0].max()
    skin_mm = patient.body.grid.world_from_index[1, 3] + 4.0 * (lowest + 0.5)
    corners = found.phantom.corners_world_mm()
    assert corners[:, 1].max() > skin_mm
    assert corners[:, 1].min() > skin_mm - 12.0
    where = transform_points(
        found.volume.grid.index_from_world,
        found.phantom.axis_world_mm(found.phantom.phantom.rods[-1])[0] * 0.5
        + found.phantom.axis_world_mm(found.phantom.phantom.rods[-1])[1] * 0.5,
    )
    i, j, k = np.rint(where).astype(int)
    assert found.volume.values[i, j, k] == pytest.approx(found.phantom.rods_hu[-1], abs=1.0)
    middle = found.volume.values[found.volume.grid.shape[0] // 2, j:, k]
    assert middle.max() > -900 > middle.min()
    alone = scan(patient)
    shape = patient.body.grid.shape
    body = patient.body.values > -300.0
    assert np.array_equal(found.volume.values[: shape[0], : shape[1]][body], alone.volume.values[body])


def test_a_phantom_of_ones_own_file(cylinder, tmp_path):
    write_phantom(tmp_path / "mine.json", replace(phantom_of_name("QRM-BDC-3"), name="mine"))
    found = scan(cylinder, ScanOptions(phantom=str(tmp_path / "mine.json"), **SMALL))
    assert found.phantom.phantom.name == "mine"


def test_noise_has_the_level_and_covariance_of_its_kernel(cylinder):
    options = ScanOptions(noise_hu=20.0, noise_by_size=False, thickness_mm=6.0, interval_mm=6.0, kernel="sharp")
    noisy, clean = (scan(cylinder, replace(options, noise_hu=level), 2) for level in (20.0, 0.0))
    noise = (noisy.volume.values - clean.volume.values)[20:-20, 20:-20]
    expected_sd = 20.0 * np.sqrt(3.0 / 6.0) * noise_gain(KERNELS["sharp"])
    assert noisy.scale.noise_sd_hu == pytest.approx(expected_sd)
    assert noise.std() == pytest.approx(expected_sd, rel=0.03)
    covariance = noise_covariance(2.0, KERNELS["sharp"])
    assert np.mean(noise[1:] * noise[:-1]) / noise.var() == pytest.approx(covariance[1, 0], abs=0.02)
    assert np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / noise.var() == pytest.approx(0.0, abs=0.02)


def test_overlapping_slices_share_noise(cylinder):
    options = ScanOptions(noise_hu=20.0, thickness_mm=4.0, interval_mm=2.0)
    noisy, clean = (scan(cylinder, replace(options, noise_hu=level), 2) for level in (20.0, 0.0))
    noise = (noisy.volume.values - clean.volume.values)[20:-20, 20:-20]
    assert 0.4 < np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / noise.var() < 0.75
    assert noise.std() == pytest.approx(float(noisy.scale.noise_sd_hu.mean()), rel=0.05)


def test_a_larger_body_is_noisier_by_what_it_absorbs(cylinder):
    small, large = (scan(body, ScanOptions(noise_hu=10.0)) for body in (cylinder, _cylinder(260.0)))
    sizes = [float(found.scale.water_diameters_mm[3]) for found in (small, large)]
    ratio = float(large.scale.noise_sd_hu[3] / small.scale.noise_sd_hu[3])
    assert ratio == pytest.approx(np.exp(0.5 * 0.01929 * (sizes[1] - sizes[0])), rel=1e-6)
    assert ratio > 1.6


def test_cupping_lowers_the_middle_by_its_amplitude_and_spares_the_rim():
    body = _cylinder()
    body.density.values[:] = 0.0
    body.body.values[:] = np.minimum(body.body.values, 0.0)
    found = scan(body, ScanOptions(cupping_hu=18.0))
    amplitude = 18.0 * (DIAMETER_MM / 300.0) ** 2
    assert _at(found, 0.0, 10.0).mean() == pytest.approx(-amplitude, abs=0.5)
    assert _at(found, 70.0, 6.0).mean() == pytest.approx(-amplitude * (1.0 - 0.7**2), abs=0.5)
    assert _at(found, 96.0, 4.0).mean() == pytest.approx(0.0, abs=1.5)


def test_the_scale_drifts_from_slice_to_slice_as_the_truth_says(cylinder):
    found = scan(cylinder, ScanOptions(drift_percent=2.0, offset_sd_hu=10.0), 7)
    truth = scan_truth(found)["slices"]
    water = [_at(found, 60.0, 30.0)[:, k].mean() for k in range(found.volume.grid.shape[2])]
    expected = [1000.0 * gain - 1000.0 + truth["offset_hu"] for gain in truth["gain"]]
    assert water == pytest.approx(expected, abs=0.6)
    assert abs(water[-1] - water[0]) == pytest.approx(20.0, abs=1.0)
    assert truth["offset_hu"] != 0.0
    line, middle = found.lines[Material.HA], _at(found, 0.0, 20.0).mean()
    assert line.slope * middle + line.intercept == pytest.approx(BONE_MG_CM3, abs=0.5)


def test_outside_the_field_is_padding_and_the_truth_says_what_is_lost(cylinder):
    options = ScanOptions(fov_mm=160.0, pixel_mm=1.0, padding_hu=-2048)
    found = scan(cylinder, options)
    assert found.volume.grid.shape[:2] == (160, 160)
    n = np.arange(160) - 79.5
    circle = np.hypot(n[:, None], n[None, :]) <= 80.0
    for k in (0, 5):
        assert np.array_equal(found.volume.values[:, :, k] == -2048.0, ~circle)
    assert found.beyond_field == pytest.approx(1.0 - (160.0 / DIAMETER_MM) ** 2, abs=0.03)
    whole = scan(cylinder, replace(options, fov_mm=300.0))
    assert whole.beyond_field == 0.0
    shifted = scan(cylinder, replace(options, fov_shift_mm=(40.0, 0.0)))
    assert shifted.volume.grid.centre_world_mm[0] - found.volume.grid.centre_world_mm[0] == pytest.approx(40.0)
    assert shifted.beyond_field > found.beyond_field
    square = scan(cylinder, replace(options, padding_hu=None))
    assert square.volume.values.min() >= -1024.0
    assert square.beyond_field < found.beyond_field


def test_kernels_blur_in_the_plane_and_a_sharp_one_overshoots(cylinder):
    found = {name: scan(cylinder, ScanOptions(kernel=name, pixel_mm=0.8)) for name in ("none", "soft", "sharp")}
    steepest = {name: np.abs(np.diff(one.volume.values, axis=0)).max() for name, one in found.items()}
    assert steepest["soft"] < 0.9 * steepest["none"]
    assert steepest["soft"] < steepest["sharp"]
    core = BONE_MG_CM3 * 1.3072555
    assert found["sharp"].volume.values.max() > core + 8.0
    assert found["soft"].volume.values.max() == pytest.approx(core, abs=4.0)


def test_pixels_coarser_than_the_kernel_are_not_sharpened(patient):
    plain, coarse = (scan(patient, ScanOptions(kernel=name)) for name in ("none", "standard"))
    # Without a limit these edges would be a seventh steeper; whole HU leave a rest.
    assert np.std(np.diff(coarse.volume.values, axis=0)) < 1.001 * np.std(np.diff(plain.volume.values, axis=0))


def test_a_thick_slice_blurs_along_z(patient):
    plain, thick = scan(patient), scan(patient, ScanOptions(thickness_mm=16.0))
    rectangle = ndimage.uniform_filter1d(patient.body.values, 4, axis=2, origin=-1)
    inner = (slice(None), slice(None), slice(6, -6))
    ideal = 0.5 * (rectangle + np.roll(rectangle, 1, axis=2))[inner]
    assert np.abs(thick.volume.values[inner] - np.maximum(ideal, -1024)).mean() < 6.0
    assert np.std(np.diff(thick.volume.values, axis=2)) < 0.6 * np.std(np.diff(plain.volume.values, axis=2))


@pytest.mark.parametrize("padding", [-1024, -2048])
def test_our_readers_get_the_scan_back_unchanged(patient, tmp_path, padding):
    options = replace(preset_scan("QRM-BDC-6"), pixel_mm=5.0, interval_mm=12.0, thickness_mm=12.0, padding_hu=padding)
    found = scan(patient, options, 4)
    write_ct_dicom(tmp_path / "ct", found.volume, DicomOptions(simulated=True), acquisition_of(found))
    write_volume(tmp_path / "ct.nii.gz", found.volume)
    for path in (tmp_path / "ct", tmp_path / "ct.nii.gz"):
        back = read_volume(path)
        assert back.grid == found.volume.grid
        assert np.array_equal(back.values, found.volume.values)


def test_the_truth_is_json_with_a_line_for_each_material(patient):
    found = scan(patient, replace(preset_scan("Mindways-3"), pixel_mm=5.0, interval_mm=12.0), 4)
    truth = json.loads(json.dumps(scan_truth(found), allow_nan=False))
    assert truth["simulated"] is True
    assert "Research use only" in truth["research_use_only"]
    assert set(truth["calibration"]) == {"HA", "K2HPO4"}
    assert truth["calibration"]["HA"]["slope"] != truth["calibration"]["K2HPO4"]["slope"]
    assert truth["phantom"]["material"] == "K2HPO4"
    assert len(truth["slices"]["gain"]) == found.volume.grid.shape[2]
    for rod in truth["phantom"]["rods"]:
        assert {"density_mg_cm3", "water_mg_cm3", "hu", "axis_world_mm"} <= set(rod)


def _scanned(seed):
    options = replace(preset_scan(), pixel_mm=4.0, interval_mm=12.0, thickness_mm=18.0)
    found = scan(_cylinder(), options, (1, seed))
    return found.volume.values.tobytes() + json.dumps(scan_truth(found)).encode()


def test_the_bytes_depend_on_the_seed_alone_and_not_on_the_workers():
    one = dict(in_processes(_scanned, [1, 2], workers=1))
    two = dict(in_processes(_scanned, [1, 2], workers=2))
    assert one == two
    assert one[1] != one[2]


def test_the_preset_turns_every_effect_on_and_the_default_none():
    off, on = ScanOptions(), preset_scan()
    neutral = {"noise_by_size", "phantom_gap_mm", "fov_shift_mm"}
    for name in off.__dataclass_fields__:
        assert name in neutral or getattr(on, name) != getattr(off, name), name


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"kvp": 60.0}, BadConfig),
        ({"padding_hu": -3000}, BadConfig),
        ({"pixel_mm": 0.0008}, SuspectedUnit),
        ({"fov_mm": 50_000.0}, SuspectedUnit),
        ({"thickness_mm": -1.0}, SuspectedUnit),
        ({"noise_hu": float("nan")}, SuspectedUnit),
        ({"serial": -1}, BadConfig),
        ({"kernel": "bone"}, BadConfig),
        ({"profile": "triangle"}, BadConfig),
    ],
)
def test_options_out_of_range_are_refused(wrong, error):
    with pytest.raises(error):
        ScanOptions(**wrong)


def test_an_unknown_phantom_and_an_empty_scan_are_refused(cylinder):
    with pytest.raises(BadConfig, match="B-MAS200"):
        scan(cylinder, ScanOptions(phantom="B-MAS"))
    empty = SimpleNamespace(
        body=Volume(np.full_like(cylinder.body.values, -1000.0), cylinder.body.grid), density=cylinder.density
    )
    with pytest.raises(BadConfig, match="nobody"):
        scan(empty)


def test_in_field_is_a_disc_in_a_square(cylinder):
    found = scan(cylinder, ScanOptions(fov_mm=100.0, pixel_mm=0.5, padding_hu=-1024))
    inside = found.volume.values[:, :, 0] > -1024
    assert inside.mean() == pytest.approx(np.pi / 4.0, abs=0.005)
    assert in_field(SimpleNamespace(x_mm=np.arange(10.0), y_mm=np.arange(10.0), pixel_mm=1.0)).sum() == pytest.approx(
        25 * np.pi, abs=4
    )
