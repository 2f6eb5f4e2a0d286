"""Regions: where their planes are, that they follow the bone, and what moving a plane does to the BMD."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.areal import areal_bmd, mean_bmd_g_cm2, project_region, standard_view, volumetric_bmd_mg_cm3
from hierbmd.anatomy.femur import femur_axes
from hierbmd.anatomy.options import RegionOptions
from hierbmd.anatomy.regions import femoral_neck_region, hip_regions, shifted, total_hip, total_hip_region
from hierbmd.anatomy.shape import world_points
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, LabelsMismatch, SideConflict, Uncalibrated
from hierbmd.geometry import Camera, Grid, Placement, Side, View
from hierbmd.rigid import rigid_matrix


@pytest.fixture(scope="module")
def hip(coarse_patient):
    mask, grid = coarse_patient.labels.mask("femur_left"), coarse_patient.labels.grid
    axes = femur_axes(mask, grid)
    return mask, grid, axes, total_hip(mask, grid, axes)


def test_total_hip_is_the_femur_between_its_two_planes(hip):
    mask, grid, axes, region = hip
    assert not np.any(region & ~mask)
    inside, outside = world_points(region, grid), world_points(mask & ~region, grid)
    assert axes.along_neck_mm(inside).min() >= axes.neck.junction_mm
    distal_mm = axes.lesser_trochanter_end_mm + RegionOptions().below_trochanter_mm
    assert axes.along_shaft_mm(inside).max() <= distal_mm
    cut_away = (axes.along_neck_mm(outside) < axes.neck.junction_mm) | (axes.along_shaft_mm(outside) > distal_mm)
    assert cut_away.all()
    in_head = np.linalg.norm(inside - axes.head.centre_world_mm, axis=1) < 0.7 * axes.head.radius_mm
    assert not in_head.any()


def test_neck_trochanter_and_intertrochanter_make_the_total_hip(hip, coarse_patient):
    mask, grid, axes, total = hip
    regions = hip_regions(mask, grid, axes)
    parts = [regions[name] for name in ("femoral_neck", "trochanter", "intertrochanter")]
    assert np.array_equal(np.sum(parts, axis=0), total.astype(int))
    assert np.array_equal(regions["total_hip"], total)
    bmc_g = [areal_bmd(coarse_patient.density, part, axes).bmc_g for part in parts]
    assert sum(bmc_g) == pytest.approx(areal_bmd(coarse_patient.density, total, axes).bmc_g, rel=5e-3)


def test_the_trochanteric_plane_leads_from_the_necks_end_to_the_base_of_the_greater_trochanter(hip):
    mask, grid, axes, _ = hip
    regions = hip_regions(mask, grid, axes)
    start = axes.head.centre_world_mm + (axes.neck.junction_mm + 15.0) * axes.neck.direction
    towards = axes.trochanter_base_world_mm - start
    up = np.cross(axes.beam, towards)
    up /= np.linalg.norm(up) * -np.sign(up @ axes.down)
    assert (((world_points(regions["trochanter"], grid) - start) @ up) > 0).all()
    assert (((world_points(regions["intertrochanter"], grid) - start) @ up) <= 0).all()
    # Below the neck's end and above the lesser trochanter's, on the outline away from the head.
    assert axes.along_shaft_mm(start) < axes.along_shaft_mm(axes.trochanter_base_world_mm)
    assert axes.along_shaft_mm(axes.trochanter_base_world_mm) < axes.lesser_trochanter_end_mm
    lateral = axes.trochanter_base_world_mm - axes.shaft.point_world_mm
    assert (lateral - (lateral @ axes.down) * axes.down) @ axes.neck.direction > axes.shaft.radius_mm / 2.0


def test_femoral_neck_is_a_slab_of_its_width_inside_the_total_hip_or_head(hip):
    mask, grid, axes, _ = hip
    neck = femoral_neck_region(mask, grid, axes.head, axes.neck)
    along = axes.along_neck_mm(world_points(neck, grid))
    assert np.ptp(along) == pytest.approx(15.0, abs=1.5)
    assert neck.sum() * grid.voxel_mm3 == pytest.approx(15.0 * np.pi * axes.neck.radius_mm**2, rel=0.3)


def test_regions_follow_a_rigid_motion_voxel_by_voxel_and_so_does_the_bmd(hip, coarse_patient):
    mask, grid, axes, region = hip
    turn = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    moved = Grid(grid.shape, rigid_matrix(turn, np.array([50.0, -20.0, 9.0])) @ grid.world_from_index)
    moved_axes = femur_axes(mask, moved)
    moved_region = total_hip(mask, moved, moved_axes)
    assert np.array_equal(moved_region, region)
    here, there_too = hip_regions(mask, grid, axes), hip_regions(mask, moved, moved_axes)
    assert all(np.array_equal(here[name], there_too[name]) for name in here)
    density = coarse_patient.density
    there = areal_bmd(Volume(density.values, moved, density.unit), moved_region, moved_axes)
    assert there.bmd_g_cm2 == pytest.approx(areal_bmd(density, region, axes).bmd_g_cm2, rel=1e-3)


def test_mineral_is_kept_by_projection(hip, coarse_patient):
    """BMC from the image is the sum over voxels: rays all but parallel, at the region's own scale."""
    _, grid, axes, region = hip
    found = areal_bmd(coarse_patient.density, region, axes)
    grams = coarse_patient.density.values[region].sum(dtype=np.float64) * grid.voxel_mm3 * 1e-6
    assert found.bmc_g == pytest.approx(grams, rel=2e-3)
    assert found.bmd_g_cm2 == pytest.approx(found.bmc_g / found.area_cm2)
    assert 0.3 < found.bmd_g_cm2 < 1.6


def test_the_standard_view_shows_neck_and_shaft_at_full_length(hip):
    _, grid, axes, region = hip
    _, pose = standard_view(grid, region, axes)
    for direction in (axes.neck.direction, axes.shaft.direction):
        assert (pose[:3, :3] @ direction)[2] == pytest.approx(0.0, abs=1e-9)
    assert (pose[:3, :3] @ axes.shaft.direction)[1] == pytest.approx(1.0)


def test_a_slab_reads_density_times_thickness():
    """A 40 x 20 x 60 mm block of 500 mg/cm3, seen along its 20 mm: 1 g/cm2 over 24 cm2."""
    grid = Grid((60, 50, 80), np.eye(4))
    region = np.zeros(grid.shape, bool)
    region[10:50, 15:35, 10:70] = True
    density = Volume(np.full(grid.shape, 500.0, np.float32), grid, "mg/cm3 HA")
    pose = Placement(View.AP, grid.centre_world_mm, 20_000.0).camera_from_world()
    areal, seen = project_region(density, region, Camera(20_500.0, (80, 100), (1.025, 1.025)), pose)
    assert seen.sum() == pytest.approx(40 * 60, rel=0.05)
    assert areal[50, 40] == pytest.approx(1.0, rel=2e-3)
    assert mean_bmd_g_cm2(areal, seen) == pytest.approx(1.0, rel=0.02)


def test_planes_moved_by_a_millimetre_change_the_bmd_by_about_a_percent_at_most(coarse_patient):
    """At 3 mm voxels; measured at 2 mm: at most 1.04 % over 8 hips."""
    for side in ("left", "right"):
        mask, grid = coarse_patient.labels.mask(f"femur_{side}"), coarse_patient.labels.grid
        axes = femur_axes(mask, grid)
        here = areal_bmd(coarse_patient.density, total_hip(mask, grid, axes), axes).bmd_g_cm2
        for medial_mm, distal_mm in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            options = shifted(RegionOptions(), medial_mm=medial_mm, distal_mm=distal_mm)
            there = areal_bmd(coarse_patient.density, total_hip(mask, grid, axes, options), axes).bmd_g_cm2
            assert there == pytest.approx(here, rel=0.015)


def test_total_hip_region_of_labels_and_what_it_refuses(hip, coarse_patient):
    labels = coarse_patient.labels
    assert np.array_equal(total_hip_region(labels, Side.LEFT), hip[3])
    swapped = {**labels.scheme, "femur_left": labels.scheme["femur_right"], "femur_right": labels.scheme["femur_left"]}
    with pytest.raises(SideConflict, match="is a right femur by its shape"):
        total_hip_region(LabelMap(labels.ids, labels.grid, swapped), Side.LEFT)
    with pytest.raises(LabelsMismatch):
        total_hip_region(LabelMap(labels.ids, labels.grid, {"hip_left": 77}), Side.LEFT)


def test_a_region_below_the_end_of_the_bone_is_refused(hip):
    mask, grid, axes, _ = hip
    with pytest.raises(BadRegion, match="cut off"):
        total_hip(mask, grid, axes, RegionOptions(below_trochanter_mm=300.0))
    with pytest.raises(BadRegion, match="empty"):
        total_hip(mask, grid, axes, RegionOptions(junction_shift_mm=500.0))


def test_hounsfield_units_are_no_density(hip, coarse_patient):
    _, _, axes, region = hip
    with pytest.raises(Uncalibrated, match="HU is no density"):
        areal_bmd(coarse_patient.volume, region, axes)


def test_volumetric_density_is_the_mean_of_the_voxels():
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    density = Volume(values, Grid((2, 2, 2), np.eye(4)), "mg/cm3 HA")
    assert volumetric_bmd_mg_cm3(density, values > 3) == pytest.approx(5.5)


def test_a_region_that_no_pixel_sees_has_no_mean():
    with pytest.raises(BadRegion, match="not on the image"):
        mean_bmd_g_cm2(np.zeros((2, 2)), np.zeros((2, 2), np.uint8))
