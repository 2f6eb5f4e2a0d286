"""Patients from one CT: number 0 as it is, the others whole, each repeatable alone, with truth that follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.anatomy.areal import project_density
from hierbmd.anatomy.femur import femur_axes
from hierbmd.anatomy.regions import total_hip
from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.errors import BadConfig, LabelsMismatch, NotHounsfield, SuspectedUnit, Uncalibrated
from hierbmd.io.atomic import write_json
from hierbmd.io.calibration_file import write_calibration
from hierbmd.io.image import write_volume
from hierbmd.simulation.bone_truth import bones_truth, side_truth
from hierbmd.simulation.real_case import JACOBIAN, drawn, real_case
from hierbmd.simulation.real_options import RealCtOptions
from hierbmd.simulation.real_original import RealCt, original_of
from hierbmd.simulation.truth import true_areal_density

STILL = RealCtOptions(**dict.fromkeys(("density_sd", "cortex_sd", "side_density_sd", "texture_sd"), 0.0))
STILL = replace(STILL, warp_mm=0.0, size_sd=0.0, side_size_sd=0.0, bmi_sd=0.0)
"""Nothing is drawn."""


@pytest.fixture(scope="module")
def case(real_files):
    return real_case(1, real_files, seed=3)


def test_number_0_is_the_ct_as_it_is(real_files, patient):
    case = real_case(0, real_files, seed=3)
    assert np.array_equal(case.scan.values, patient.volume.values)
    assert np.array_equal(case.labels.ids, patient.labels.ids)
    assert case.facts["density_line"] == "nominal"


def test_a_subject_is_the_same_alone_and_others_differ(real_files, case):
    again, other = real_case(1, real_files, seed=3), real_case(2, real_files, seed=3)
    assert np.array_equal(again.scan.values, case.scan.values)
    assert np.array_equal(again.labels.ids, case.labels.ids)
    assert again.facts == case.facts
    assert other.facts["bmi_change_kg_m2"] != case.facts["bmi_change_kg_m2"]


def test_an_option_at_zero_leaves_what_the_others_draw(real_files):
    original = original_of(real_files)
    whole, part = (drawn(3, 1, options, original) for options in (RealCtOptions(), RealCtOptions(density_sd=0.0)))
    assert part.density.trabecular == 0.0 != whole.density.trabecular
    assert (part.density.left, part.density.cortical) == (whole.density.left, whole.density.cortical)
    assert (part.size, part.bmi_change) == (whole.size, whole.bmi_change)


def test_nothing_drawn_is_the_original_without_its_table(real_files, patient):
    case = real_case(1, real_files, seed=3, options=STILL)
    assert case.scan.grid == patient.volume.grid
    body = patient.volume.values > -300.0
    assert np.mean(np.abs(case.scan.values - patient.volume.values)[body] > 1.0) < 0.01
    assert np.array_equal(case.labels.ids, patient.labels.ids)


def test_the_body_stays_whole(case, patient):
    low, high = case.facts["jacobian"]
    assert JACOBIAN[0] <= low < 1.0 < high <= JACOBIAN[1]
    assert set(case.labels.names_present) == set(patient.labels.names_present)
    for name in ("femur_left", "hip_right"):
        share = [np.mean(one.values[mask] > 150) for one, mask in _with_masks(case, patient, name)]
        assert share[1] == pytest.approx(share[0], abs=0.12)
    grid = case.scan.grid
    assert np.all(np.diff(np.sort(grid.spacing_mm)) < 0.5)


def _with_masks(case, patient, name):
    return [(patient.volume, patient.labels.mask(name)), (case.scan, case.labels.mask(name))]


def test_labels_move_with_their_bones(real_files, patient):
    """A strong warp alone: the label lies on its bone to within a voxel, and the head is a head still.

    Resampling at 4 mm blurs some of the cortex out of the label: 6 % of what it holds.
    """
    moved = real_case(4, real_files, seed=3, options=replace(STILL, warp_mm=8.0, size_sd=0.05, side_size_sd=0.03))
    for name in ("femur_left", "femur_right", "hip_left", "hip_right"):
        before, after = (float(v.values[mask].mean()) for v, mask in _with_masks(moved, patient, name))
        assert after == pytest.approx(before, rel=0.08)
        mask = moved.labels.mask(name)
        for axis in (0, 1):
            for step in (-1, 1):
                assert moved.scan.values[np.roll(mask, step, axis=axis)].mean() < 0.95 * after
    for side in ("left", "right"):
        assert side in moved.hip_centres_world_mm
        away = moved.hip_centres_world_mm[side] - patient.hip_centres_world_mm[side]
        assert 0.5 < np.linalg.norm(away) < 40.0


def test_size_alone_scales_areas_volumes_and_mass_as_lengths_do(real_files):
    """A known affine: volume and mineral by the product, the area from the front by its two axes; density stays."""
    options = replace(STILL, size_sd=0.1)
    factors = np.array(real_case(2, real_files, seed=8, options=options).facts["size_factor_by_axis"])
    assert np.abs(factors - 1).max() > 0.02
    plain, grown = (real_case(2, real_files, seed=8, options=o) for o in (STILL, options))
    before, after = (bones_truth(one.density, one.labels)["hip_left"] for one in (plain, grown))
    assert after["volume_cm3"] / before["volume_cm3"] == pytest.approx(np.prod(factors), rel=1e-4)
    assert after["bmc_g"] / before["bmc_g"] == pytest.approx(np.prod(factors), rel=1e-4)
    assert after["ap_area_cm2"] / before["ap_area_cm2"] == pytest.approx(factors[0] * factors[2], rel=1e-4)
    assert after["ap_bmd_g_cm2"] / before["ap_bmd_g_cm2"] == pytest.approx(factors[1], rel=1e-4)


def test_the_truth_of_voxels_the_projector_and_the_rays_agree(case, small_geometry):
    """One region's mineral by adding voxels, by the projector, and by rays of their own, within 0.3 %."""
    femur = case.labels.mask("femur_left")
    region = total_hip(femur, case.labels.grid, femur_axes(femur, case.labels.grid))
    camera, pose = small_geometry.camera, small_geometry.camera_from_world
    projected = project_density(case.density, region, camera, pose).sum(dtype=np.float64)
    marched = true_areal_density(case.density, region, camera, pose).areal_g_cm2.sum(dtype=np.float64)
    assert marched == pytest.approx(projected, rel=0.003)
    truth = side_truth(case.density, case.labels, "left")
    bmc_g = 1e-6 * case.density.values[region].sum(dtype=np.float64) * case.density.grid.voxel_mm3
    assert truth["total_hip_bmc_g"] == pytest.approx(bmc_g, rel=0.003)
    assert truth["total_hip_bmd_g_cm2"] == pytest.approx(bmc_g / truth["total_hip_area_cm2"], rel=0.003)
    assert truth["femoral_neck_view"] == "femur"


def test_truth_follows_the_density(real_files):
    """Sides alone change: the areal BMD of a side goes by its factor, soft tissue at the surface apart."""
    options = replace(STILL, side_density_sd=0.1)
    plain, changed = (real_case(5, real_files, seed=3, options=o) for o in (STILL, options))
    for side, factor in zip(("left", "right"), changed.facts["side_density_factor"], strict=True):
        before, after = (side_truth(one.density, one.labels, side)["total_hip_bmd_g_cm2"] for one in (plain, changed))
        assert abs(factor - 1) > 0.02
        assert after / before - 1 == pytest.approx(factor - 1, rel=0.15)


def test_a_calibration_of_its_own_makes_density_no_longer_nominal(real_files, tmp_path):
    write_calibration(tmp_path / "line.json", Calibration(1.1, -20.0, Material.K2HPO4, method="phantom"))
    case = real_case(0, replace(real_files, calibration=tmp_path / "line.json"), seed=3)
    assert case.density.unit == "mg/cm3 K2HPO4"
    assert case.facts["density_line"] == "given"
    bone = case.density.values > 0
    assert case.density.values[bone] == pytest.approx(1.1 * case.scan.values[bone] - 20.0, abs=0.01)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"slope": 0.00077, "intercept": 0.0, "material": "HA"}, SuspectedUnit),
        ({"slope": 0.77, "intercept": 0.0}, Uncalibrated),
        ({"slope": 0.77, "intercept": 0.0, "material": "HA+K2HPO4"}, Uncalibrated),
        ({"slope": 0.77, "intercept": 0.0, "material": "HA", "unit": "g/cm3"}, Uncalibrated),
    ],
)
def test_g_per_cm3_and_mixed_or_missing_materials_are_refused(real_files, tmp_path, line, error):
    write_json(tmp_path / "line.json", line)
    with pytest.raises(error):
        real_case(1, replace(real_files, calibration=tmp_path / "line.json"), seed=3)


def test_a_density_volume_in_place_of_the_ct_is_refused(real_files, patient, tmp_path):
    write_volume(tmp_path / "density.nii.gz", patient.density)
    with pytest.raises(NotHounsfield):
        real_case(1, RealCt(tmp_path / "density.nii.gz", real_files.labels), seed=3)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"warp_mm": 0.005}, SuspectedUnit),
        ({"warp_scale_mm": 0.045}, SuspectedUnit),
        ({"warp_mm": 50.0}, BadConfig),
        ({"warp_scale_mm": 5.0}, BadConfig),
        ({"density_sd": -0.1}, BadConfig),
        ({"bmi_sd": 30.0}, BadConfig),
    ],
)
def test_metres_and_what_no_patient_has_are_refused(wrong, error):
    with pytest.raises(error):
        RealCtOptions(**wrong)


def test_torso_ct_says_what_it_cannot_tell(shared_data):
    """The nail's side is refused, the cut femora have a neck and no total hip, what the scan cuts is named."""
    folder = shared_data / "torso-ct"
    real = RealCt(folder / "example_ct.nii.gz", folder / "example_ct_totalseg_labels.nii.gz")
    case = real_case(1, real, seed=5)
    metal = tuple(case.facts["metal_in"])
    assert "femur_left" in metal
    assert case.scan.values.max() > 2800
    assert "metal" in side_truth(case.density, case.labels, "left", metal)["refused"]
    right = side_truth(case.density, case.labels, "right", metal)
    assert "cut off" in right["refused"]
    assert 0.3 < right["femoral_neck_bmd_g_cm2"] < 2.0
    assert right["femoral_neck_view"] == "neck and body axis"
    assert {"femur_left", "femur_right"} <= set(case.facts["bones_cut_by_the_scan"])
    bones = bones_truth(case.density, case.labels, metal)
    assert bones["femur_left"] == {"refused": "metal"}
    assert bones["femur_right"]["cut"]
    assert not bones["vertebrae_L3"]["cut"]
    for level in range(1, 6):
        assert 0.3 < bones[f"vertebrae_L{level}"]["ap_bmd_g_cm2"] < 3.0


def test_a_spine_without_hips_is_refused(shared_data):
    folder = shared_data / "torso-ct"
    with pytest.raises(LabelsMismatch):
        real_case(1, RealCt(folder / "example_ct.nii.gz", folder / "totalseg_vertebrae_body.nii.gz"), seed=1)
