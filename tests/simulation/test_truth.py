"""Areal BMD by ways that share nothing, within 0.3 %: by hand, by voxels, by the projector, by rays of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.areal import areal_bmd, standard_view
from hierbmd.anatomy.femur import femur_axes
from hierbmd.anatomy.regions import hip_regions
from hierbmd.anatomy.silhouette import SMOOTHED_VOXELS
from hierbmd.anatomy.spine import WHOLE, spine_axes, spine_regions
from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.rigid import rigid_matrix, transform_points
from hierbmd.simulation.bone_truth import side_truth, spine_truth
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient
from hierbmd.simulation.truth import true_areal_density

WITHIN = 0.003


@dataclass(frozen=True)
class View:
    """A standard view by two directions."""

    down: NDArray[np.float64]
    beam: NDArray[np.float64]


def bmd_by_voxels(density, region, axes, *, cell_mm=0.4):
    """Mineral: the sum of the voxels. Area: parallel rays, one anywhere in each cell, that look for the surface."""
    grid = density.grid
    grams = 1e-6 * grid.voxel_mm3 * density.values[region].sum(dtype=np.float64)
    surface = ndimage.gaussian_filter(region.astype(np.float32), SMOOTHED_VOXELS)
    across = np.cross(axes.down, axes.beam)
    points = transform_points(grid.world_from_index, np.argwhere(region).astype(np.float64))
    u, v, w = (
        np.arange(along.min() - margin, along.max() + margin, step)
        for along, step in zip(
            [points @ way for way in (across, axes.down, axes.beam)],
            (cell_mm, cell_mm, 0.3 * grid.spacing_mm.min()),
            strict=True,
        )
        for margin in [1.5 * grid.spacing_mm.max()]
    )
    rng, seen = np.random.default_rng(3), 0
    for row in v:
        down, aside = row + cell_mm * rng.random(len(u)), u + cell_mm * rng.random(len(u))
        places = down[:, None, None] * axes.down + aside[:, None, None] * across + w[:, None] * axes.beam
        index = np.moveaxis(transform_points(grid.index_from_world, places), -1, 0)
        inside = ndimage.map_coordinates(surface, index, order=1, prefilter=False)
        seen += np.count_nonzero(inside.max(axis=-1) >= 0.5)
    area_cm2 = seen * cell_mm**2 / 100.0
    return grams / area_cm2, area_cm2


def bmd_by_rays(density, region, axes, area_cm2):
    """Mineral by the radiographs' own sampling at the standard view, over a given area."""
    camera, pose = standard_view(density.grid, region, axes)
    areal = true_areal_density(density, region, camera, pose).areal_g_cm2
    points = transform_points(density.grid.world_from_index, np.argwhere(region).astype(np.float64))
    middle = np.average(points, axis=0, weights=density.values[region])
    pixel_mm = camera.pixel_mm[0] * transform_points(pose, middle)[2] / camera.sdd_mm
    return areal.sum(dtype=np.float64) * pixel_mm**2 / 100.0 / area_cm2


def _agree(density, region, axes, truth_g_cm2):
    """All three ways against a value; returns the area by voxels."""
    by_voxels, area_cm2 = bmd_by_voxels(density, region, axes)
    found = areal_bmd(density, region, axes)
    assert found.bmd_g_cm2 == pytest.approx(truth_g_cm2, rel=WITHIN)
    assert by_voxels == pytest.approx(truth_g_cm2, rel=WITHIN)
    assert bmd_by_rays(density, region, axes, area_cm2) == pytest.approx(truth_g_cm2, rel=WITHIN)
    return area_cm2


FRONT = View(np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0]))


def test_a_walled_block_by_hand():
    """48 x 30 x 64 mm, a wall of 4 mm at 1000 mg/cm3 about a core at 150, seen along its 30 mm, turned in the world.

    By hand: 42.880 cm3 of wall and 49.280 cm3 of core hold 50.272 g; over 30.72 cm2 that is 1.63646 g/cm2.
    """
    turn = np.array([[0.8, 0.0, 0.6], [0.36, 0.8, -0.48], [-0.48, 0.6, 0.64]])
    grid = Grid((40, 30, 48), rigid_matrix(turn, np.array([5.0, -7.0, 11.0])) @ np.diag([2.0, 2.0, 2.0, 1.0]))
    region, core = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    region[8:32, 8:23, 8:40] = True
    core[10:30, 10:21, 10:38] = True
    values = np.where(core, 150.0, np.where(region, 1000.0, 0.0)).astype(np.float32)
    view = View(turn @ FRONT.down, turn @ FRONT.beam)
    area_cm2 = _agree(Volume(values, grid, "mg/cm3 HA"), region, view, 50.272 / 30.72)
    assert area_cm2 == pytest.approx(30.72, rel=WITHIN)


def test_a_cylinder_by_hand():
    """Radius 15 mm of 500 mg/cm3, seen from the side: 500 x pi/2 x 15 mm = 1.17810 g/cm2."""
    grid = Grid((72, 72, 60), np.diag([0.5, 0.5, 0.5, 1.0]))
    i, j, _ = np.indices(grid.shape)
    region = np.hypot(i - 35.5, j - 35.5) * 0.5 <= 15.0
    region[..., :10] = region[..., 50:] = False
    values = np.where(region, 500.0, 0.0).astype(np.float32)
    _agree(Volume(values, grid, "mg/cm3 HA"), region, FRONT, 1.17810)


def test_total_hip_and_neck_of_a_virtual_patient(patient):
    """What truth.json holds of a patient is what its voxels hold, at coarse voxels too."""
    for side in ("left", "right"):
        femur, grid = patient.labels.mask(f"femur_{side}"), patient.labels.grid
        axes = femur_axes(femur, grid)
        regions = hip_regions(femur, grid, axes)
        truth = side_truth(patient.density, patient.labels, side)
        for name in ("total_hip", "femoral_neck"):
            _agree(patient.density, regions[name], axes, truth[f"{name}_bmd_g_cm2"])


def test_the_spine_of_a_virtual_patient():
    patient = virtual_patient(0, PatientOptions(seed=11, spacing_mm=4.0, coverage="lumbar"))
    axes = spine_axes(patient.labels)
    truth = spine_truth(patient.density, patient.labels)
    region = spine_regions(patient.labels, axes)[WHOLE]
    _agree(patient.density, region, axes, truth["l1_l4_bmd_g_cm2"])
