"""A slot scanner's and a parallel beam's radiographs: bones are found there too, and depth is as weak as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.geometry import Beam, Camera
from hierbmd.registration.bone import Search, register_bone
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import Outcome
from hierbmd.registration.overlay import OUTLINE_RGB, overlay
from hierbmd.registration.rays import pixel_at_depth_mm, ray_directions
from hierbmd.registration.starts import slide_in_plane
from hierbmd.registration.target import target_error
from hierbmd.registration.uncertainty import in_plane_std_mm
from hierbmd.rigid import moved, transform_points

SLOT = Camera(1000.0, (96, 92), (3.0, 2.55), beam=Beam.SLOT)
PARALLEL = Camera(1000.0, (96, 80), (2.6, 2.6), beam=Beam.PARALLEL)
OPTIONS = RegistrationOptions(starts=4, level_pixel_mm=(5.6, 2.8))
AWAY = np.r_[np.radians([3.0, -4.0, 2.0]), 9.0, -8.0, 12.0]


def _levels(image, camera, noise=0.0):
    image = image + noise * image.std() * np.random.default_rng(0).normal(size=image.shape)
    return make_levels(image.astype(np.float32), camera, pixel_mm=OPTIONS.level_pixel_mm, smoothing_px=1.0)


def test_a_pixel_is_smaller_at_the_patient_only_where_rays_fan():
    assert pixel_at_depth_mm(SLOT, 850.0) == pytest.approx([2.55, 2.55])
    assert pixel_at_depth_mm(PARALLEL, 850.0) == pytest.approx([2.6, 2.6])
    assert pixel_at_depth_mm(replace(SLOT, beam=Beam.CONE), 500.0) == pytest.approx([1.5, 1.275])


@pytest.mark.parametrize(
    "camera", [SLOT, PARALLEL, replace(SLOT, beam=Beam.CONE)], ids=lambda camera: camera.beam.value
)
def test_a_shift_along_the_ray_moves_no_pixel(camera):
    points = np.array([[80.0, -60.0, 850.0], [-20.0, 40.0, 700.0]])
    rays = ray_directions(points, camera.beam)
    assert np.allclose(np.linalg.norm(rays, axis=1), 1.0)
    assert np.allclose(camera.pixels_from_camera(points + 9.0 * rays), camera.pixels_from_camera(points))


def test_a_bone_is_found_on_a_slot_scan(blob_body, start):
    body = blob_body()
    truth = moved(start, AWAY, body.pivot_world_mm)
    found = register_bone(Search(body, _levels(body.image(SLOT, truth)[0], SLOT), start, OPTIONS))
    error = target_error(found.camera_from_world, truth, body.surface_world_mm, beam=Beam.SLOT)
    assert found.outcome is Outcome.CONVERGED
    assert error.in_plane_mm < 0.1
    assert error.depth_mm < 2.0
    assert found.similarity > 0.99


def test_a_parallel_beam_shows_all_but_depth(blob_body, start):
    body = blob_body()
    truth = moved(start, AWAY, body.pivot_world_mm)
    found = register_bone(Search(body, _levels(body.image(PARALLEL, truth)[0], PARALLEL, 0.05), start, OPTIONS))
    error = target_error(found.camera_from_world, truth, body.surface_world_mm, beam=Beam.PARALLEL)
    assert found.outcome is Outcome.CONVERGED
    assert error.in_plane_mm < 0.3
    assert np.isinf(found.uncertainty.depth_mm)
    assert 0.0 < found.uncertainty.in_plane_mm < 1.0


def test_sliding_on_a_slot_scan_keeps_each_axis_own_scale(blob_body, start):
    body = blob_body()
    there = moved(start, np.array([0, 0, 0, 15.0, 18.0, 0]), body.pivot_world_mm)
    level = make_levels(body.image(SLOT, there)[0], SLOT, pixel_mm=(2.8,), smoothing_px=1.0)[0]
    (slid,) = slide_in_plane(level, body, start, range_mm=30.0)
    error = transform_points(slid, body.pivot_world_mm) - transform_points(there, body.pivot_world_mm)
    assert np.all(np.abs(error[:2]) < 1.4)


def test_standard_errors_on_a_slot_scan_are_the_scatter_of_noisy_runs(blob_body, start):
    body, options = blob_body(), replace(OPTIONS, starts=1, level_pixel_mm=(2.8,), min_similarity=0.1)
    image = body.image(SLOT, start)[0]
    shifts, stated = [], []
    for run in range(20):
        noise = np.random.default_rng(run).normal(size=image.shape)
        noisy = (image + 0.15 * image.std() * noise).astype(np.float32)
        levels = make_levels(noisy, SLOT, pixel_mm=options.level_pixel_mm, smoothing_px=1.0)
        found = register_bone(Search(body, levels, start, options))
        pivot = body.pivot_world_mm
        shifts.append(transform_points(found.camera_from_world, pivot) - transform_points(start, pivot))
        stated.append([found.uncertainty.tx_mm, found.uncertainty.ty_mm, found.uncertainty.depth_mm])
    ratio = np.sqrt(np.mean(np.square(shifts), axis=0)) / np.mean(stated, axis=0)
    assert np.all((ratio > 0.5) & (ratio < 1.6)), ratio


def test_an_error_along_a_slots_rays_is_not_in_plane(blob_body, start):
    body = blob_body(centre=(90.0, 0.0, 60.0))
    ray = transform_points(start, body.pivot_world_mm) * [1, 0, 1]
    along = np.r_[0, 0, 0, 3.0 * ray / np.linalg.norm(ray)]
    error = {
        beam: in_plane_std_mm(np.outer(along, along), start, body.pivot_world_mm, body.surface_world_mm, beam=beam)
        for beam in (Beam.CONE, Beam.SLOT)
    }
    assert error[Beam.SLOT] < 0.1
    assert error[Beam.CONE] > 0.2


def test_the_overlay_of_a_slot_scan_is_drawn_with_its_own_rays(small_pelvis, start):
    from hierbmd.registration.body import make_body

    volume, labels = small_pelvis
    body = make_body("femur_left", volume, labels, structures=("femur_left",), metal_hu=3000.0)
    image = body.image(SLOT, start)[0]
    picture = overlay(image, SLOT, body, start)
    rows, columns = np.nonzero(np.all(picture[:, : picture.shape[1] // 2] == OUTLINE_RGB, axis=2))
    bright = picture[:, : picture.shape[1] // 2, 2] > 60
    seen_rows, seen_columns = np.nonzero(bright)
    assert abs(rows.max() - seen_rows.max()) < 20
    assert abs(columns.max() - seen_columns.max()) < 20
