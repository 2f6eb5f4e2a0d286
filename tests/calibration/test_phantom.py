"""Calibration by phantom: rods found by themselves, the true line recovered, wrong ones refused (FAULTS 9, 13, 23)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.calibration.fit import fit_phantom
from hierbmd.calibration.locate import locate
from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.calibration.rods import RodReadings
from hierbmd.calibration.slices import slices_of
from hierbmd.data.density import Material
from hierbmd.data.phantoms import phantom_names, phantom_of_name
from hierbmd.data.volume import Volume
from hierbmd.errors import (
    ImplausibleLine,
    MetalInRods,
    PhantomNotFound,
    RodsDisagree,
    RodsOutOfView,
    ScaleDrifts,
    Uncalibrated,
)
from hierbmd.geometry import Grid
from hierbmd.rigid import transform_points


def require_true(found, scan):
    """Slope within 1 %, and what the true line calls 200 mg/cm3 within 2 mg/cm3 + 1 %."""
    true = scan.lines[found.material]
    assert found.slope == pytest.approx(true.slope, rel=0.01)
    hu = (200.0 - true.intercept) / true.slope
    assert found.slope * hu + found.intercept == pytest.approx(200.0, abs=4.0)


@pytest.mark.parametrize("name", phantom_names())
def test_each_phantom_is_found_and_its_line_is_true(scan_of, name):
    scan = scan_of(name)
    found = calibrate_by_phantom(scan.volume, scan.phantom.phantom)
    require_true(found, scan)
    assert found.material is phantom_of_name(name).material
    assert found.method == "phantom"
    assert found.phantom == name
    assert found.residual_mg_cm3 < 1.5
    assert found.uncertainty.slope_low < found.slope < found.uncertainty.slope_high
    assert found.uncertainty.slope_se < 0.005 * found.slope
    for facts, rod in zip(found.rods, scan.phantom.phantom.rods, strict=True):
        first, last = scan.phantom.axis_world_mm(rod)
        for end in np.array(facts["axis_world_mm"]):
            true = first + (last - first) * (end[2] - first[2]) / (last[2] - first[2])
            assert np.linalg.norm(end - true) < 0.6


def _reordered(volume, order, flips):
    """The same scan stored with other axes."""
    values = np.transpose(volume.values, order)
    matrix = volume.grid.world_from_index.copy()
    matrix[:, :3] = matrix[:, list(order)]
    for axis in flips:
        values = np.flip(values, axis)
        matrix[:3, 3] += matrix[:3, axis] * (values.shape[axis] - 1)
        matrix[:3, axis] *= -1.0
    return Volume(np.ascontiguousarray(values), Grid(values.shape, matrix))


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0,)), ((2, 1, 0), (1,)), ((1, 2, 0), (0, 2))])
def test_the_order_of_a_files_axes_does_not_matter(scan_of, order, flips):
    scan = scan_of("B-MAS200")
    plain = calibrate_by_phantom(scan.volume, scan.phantom.phantom)
    other = calibrate_by_phantom(_reordered(scan.volume, order, flips), scan.phantom.phantom)
    assert other.slope == pytest.approx(plain.slope, rel=1e-4)
    assert other.drift.zero_hu * np.sign(other.drift.z_mm[1] - other.drift.z_mm[0]) == pytest.approx(
        plain.drift.zero_hu, abs=0.2
    )


def _turned_over(phantom):
    """A phantom that lies the other end up: its first rod on the other side."""
    return replace(phantom, rods=tuple(replace(rod, x_mm=-rod.x_mm) for rod in phantom.rods))


@pytest.mark.parametrize("name", ["B-MAS200", "QRM-BDC-3"])
def test_either_end_may_lie_up(scan_of, name):
    scan = scan_of(name)
    found = calibrate_by_phantom(scan.volume, _turned_over(scan.phantom.phantom))
    require_true(found, scan)
    by_name = {rod["name"]: rod["hu"] for rod in found.rods}
    straight = calibrate_by_phantom(scan.volume, scan.phantom.phantom)
    assert by_name == pytest.approx({rod["name"]: rod["hu"] for rod in straight.rods}, abs=0.3)


def test_a_strongly_turned_and_tilted_phantom(scan_of):
    scan = scan_of("QRM-BDC-6", 4, phantom_tilt_deg=8.0, phantom_gap_mm=12.0, fov_mm=480.0)
    require_true(calibrate_by_phantom(scan.volume, scan.phantom.phantom), scan)


def test_rods_beyond_the_field_are_left_out(scan_of):
    scan = scan_of("B-MAS200", 2, fov_mm=320.0, fov_shift_mm=(95.0, 60.0))
    found = calibrate_by_phantom(scan.volume, scan.phantom.phantom)
    require_true(found, scan)
    assert not all(rod["read"] for rod in found.rods)
    assert sum(rod["read"] for rod in found.rods) >= 3


def test_rods_in_part_of_the_slices(scan_of):
    scan = scan_of("B-MAS200")
    values = scan.volume.values.copy()
    row = np.rint(transform_points(scan.volume.grid.index_from_world, scan.phantom.world_from_phantom[:3, 3]))[1]
    values[:, int(row) - 14 :, :6] = -990.0 + values[:1, :1, :1] * 0
    found = calibrate_by_phantom(Volume(values, scan.volume.grid), scan.phantom.phantom)
    require_true(found, scan)
    assert found.drift.slices < scan.volume.grid.shape[2] - 5


def test_the_drift_is_measured(scan_of):
    scan = scan_of("QRM-BDC-6", 3, drift_percent=1.0)
    found = calibrate_by_phantom(scan.volume, scan.phantom.phantom)
    gain = scan.scale.gain
    assert found.drift.zero_hu == pytest.approx(1000.0 * (gain[-1] - gain[0]), abs=2.0)
    assert abs(found.drift.slope_percent) == pytest.approx(1.0, abs=0.3)
    require_true(found, scan)
    wild = scan_of("QRM-BDC-6", 3, drift_percent=6.0)
    with pytest.raises(ScaleDrifts, match="along"):
        calibrate_by_phantom(wild.volume, wild.phantom.phantom)


@pytest.mark.parametrize("wrong", ["QRM-BDC-3", "QRM-BDC-6", "Mindways-3"])
def test_another_phantoms_name_is_refused(scan_of, wrong):
    with pytest.raises(Uncalibrated):
        calibrate_by_phantom(scan_of("B-MAS200").volume, phantom_of_name(wrong))


@pytest.mark.parametrize("name", phantom_names())
def test_a_scan_without_a_phantom_is_refused(scan_of, name):
    with pytest.raises(PhantomNotFound, match=name):
        calibrate_by_phantom(scan_of("").volume, phantom_of_name(name))


def test_swapped_rods_are_refused_and_the_worst_is_named(scan_of):
    scan = scan_of("B-MAS200")
    rods = list(scan.phantom.phantom.rods)
    swapped = [
        rods[0],
        rods[1],
        replace(rods[2], density_mg_cm3=rods[3].density_mg_cm3),
        replace(rods[3], density_mg_cm3=rods[2].density_mg_cm3),
        rods[4],
    ]
    with pytest.raises(RodsDisagree, match=r"rod (100|150) of"):
        calibrate_by_phantom(scan.volume, replace(scan.phantom.phantom, rods=tuple(swapped)))


def test_metal_in_a_rod_is_refused(scan_of):
    scan = scan_of("QRM-BDC-6")
    values, grid = scan.volume.values.copy(), scan.volume.grid
    rod = scan.phantom.phantom.rods[2]
    first, last = scan.phantom.axis_world_mm(rod)
    for k in range(grid.shape[2]):
        z = grid.world_from_index[2, 3] + 8.0 * k
        at = np.rint(
            transform_points(grid.index_from_world, first + (last - first) * (z - first[2]) / (last - first)[2])
        )
        i, j = at[:2].astype(int)
        values[i - 1 : i + 2, j - 1 : j + 2, k] = 3071.0
    with pytest.raises(MetalInRods, match="metal in rod"):
        calibrate_by_phantom(Volume(values, grid), scan.phantom.phantom)


def test_two_rods_in_the_field_are_too_few(scan_of):
    scan = scan_of("QRM-BDC-3", 2, fov_mm=260.0, fov_shift_mm=(120.0, 60.0))
    with pytest.raises((RodsOutOfView, PhantomNotFound)):
        calibrate_by_phantom(scan.volume, scan.phantom.phantom)


def test_pixels_too_coarse_for_rods_are_refused(scan_of):
    with pytest.raises(PhantomNotFound, match="cannot be read in pixels"):
        calibrate_by_phantom(scan_of("B-MAS200", 1, pixel_mm=5.0).volume, phantom_of_name("B-MAS200"))


def test_a_density_is_not_calibrated_again(scan_of):
    volume = scan_of("B-MAS200").volume
    with pytest.raises(Uncalibrated, match="not HU"):
        calibrate_by_phantom(Volume(volume.values, volume.grid, "mg/cm3 HA"), phantom_of_name("B-MAS200"))


def _readings(hu):
    count = len(hu)
    noise = 0.01 * np.random.default_rng(0).standard_normal((count, 6))
    return RodReadings(
        np.array(hu)[:, None] + noise, np.ones((count, 6)), np.arange(6), np.ones(count, bool),
        np.zeros((count, 2, 3)), np.ones(count),
    )  # fmt: skip


Z_MM = np.arange(6.0)


def test_the_mindways_equation_by_hand():
    """sigma_ref 1.5, beta_ref -1000: the line is rho = (HU + 0.4) / 1.2826."""
    phantom = phantom_of_name("Mindways-3")
    hu = [rod.water_mg_cm3 + 1.5 * rod.density_mg_cm3 - 1000.0 for rod in phantom.rods]
    found = fit_phantom(phantom, _readings(hu), Z_MM)
    assert found.material is Material.K2HPO4
    assert found.slope == pytest.approx(1.0 / 1.2826, rel=1e-4)
    assert found.intercept == pytest.approx(0.4 / 1.2826, abs=0.02)


def test_the_uncertainty_is_that_of_ordinary_least_squares():
    """One rod 4 HU off: standard error of the slope by the textbook's formula, where all weights are alike."""
    phantom = phantom_of_name("B-MAS200")
    x = np.array([rod.density_mg_cm3 for rod in phantom.rods])
    hu = 1.25 * x
    hu[2] += 4.0
    alike = replace(phantom, rods=tuple(replace(rod, density_mg_cm3=rod.density_mg_cm3) for rod in phantom.rods))
    found = fit_phantom(alike, _readings(hu), Z_MM)
    assert 0.002 < found.uncertainty.slope_se / found.slope < 0.02
    assert found.residual_mg_cm3 == pytest.approx(4.0 * found.slope * np.sqrt(0.8 / 3.0), rel=0.15)


@pytest.mark.parametrize(
    ("per_mg", "zero_hu", "why"),
    [(0.7, 0.0, "slope"), (2.6, 0.0, "slope"), (1.3, 90.0, "no mineral"), (-1.3, 0.0, "lower")],
)
def test_a_line_of_no_scanner_is_refused(per_mg, zero_hu, why):
    phantom = phantom_of_name("QRM-BDC-6")
    hu = [per_mg * rod.density_mg_cm3 + zero_hu for rod in phantom.rods]
    with pytest.raises(ImplausibleLine, match=why):
        fit_phantom(phantom, _readings(hu), Z_MM)


def test_nothing_reads_what_a_rod_reads_by_chance(scan_of):
    """The located pose is the phantom's own although table, bones and skin are in the image."""
    scan = scan_of("Mindways-3", 3)
    slices = slices_of(scan.volume)
    located = locate(slices, scan.phantom.phantom)
    world = slices.world_from_stack @ located.stack_from_phantom
    along = world[:3, 2] @ scan.phantom.world_from_phantom[:3, 2]
    assert abs(along) > np.cos(np.radians(0.3))
