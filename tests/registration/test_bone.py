"""One bone: found where it is, and never called converged where it is not (FAULTS row 21)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.geometry import Camera
from hierbmd.registration.body import make_body
from hierbmd.registration.bone import Search, refine_bone, register_bone
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import Outcome
from hierbmd.registration.target import target_error
from hierbmd.rigid import moved, rotation_angle_deg, transform_points

OPTIONS = RegistrationOptions(starts=4, level_pixel_mm=(6.0, 3.0))


def _levels(image, camera, noise=0.0):
    image = image + noise * image.std() * np.random.default_rng(0).normal(size=image.shape)
    return make_levels(image.astype(np.float32), camera, pixel_mm=OPTIONS.level_pixel_mm, smoothing_px=1.0)


def _away(start, body, twist=(3.0, -4.0, 2.0, 9.0, -8.0, 12.0)):
    return moved(start, np.r_[np.radians(twist[:3]), twist[3:]], body.pivot_world_mm)


def test_finds_the_projectors_own_image_to_a_tenth(blob_body, camera, start):
    body = blob_body()
    truth = _away(start, body)
    found = register_bone(Search(body, _levels(body.image(camera, truth)[0], camera), start, OPTIONS))
    assert found.outcome is Outcome.CONVERGED
    error = target_error(found.camera_from_world, truth, body.surface_world_mm)
    assert error.in_plane_mm < 0.1
    assert rotation_angle_deg(found.camera_from_world[:3, :3] @ truth[:3, :3].T) < 0.1
    shift = transform_points(found.camera_from_world, body.pivot_world_mm) - transform_points(
        truth, body.pivot_world_mm
    )
    assert np.hypot(*shift[:2]) < 0.1
    assert found.similarity > 0.99
    assert len(found.starts) == 4


@pytest.mark.parametrize("curve", [np.sqrt, np.square, lambda x: 1 / (1 + np.exp(3 - 6 * x))])
def test_a_monotone_display_curve_noise_and_shading_do_not_mislead(small_pelvis, start, curve):
    volume, labels = small_pelvis
    body = make_body("femur_left", volume, labels, structures=("femur_left",), metal_hu=3000.0)
    camera = Camera(1000.0, (128, 128), (2.0, 2.0))
    truth = _away(start, body)
    image = np.maximum(body.image(camera, truth)[0], 0.0)
    columns = np.arange(camera.size_px[0]) / camera.size_px[0]
    shown = curve(0.3 + 0.5 * image / image.max() + 0.2 * columns)
    found = register_bone(Search(body, _levels(shown, camera, noise=0.05), start, OPTIONS))
    assert found.converged
    assert target_error(found.camera_from_world, truth, body.surface_world_mm).in_plane_mm < 1.5


def test_the_same_seed_gives_the_same_pose(blob_body, camera, start):
    body = blob_body()
    levels = _levels(body.image(camera, _away(start, body))[0], camera, noise=0.2)
    one, other = (register_bone(Search(body, levels, start, OPTIONS)) for _ in range(2))
    assert np.array_equal(one.camera_from_world, other.camera_from_world)
    assert one.similarity == other.similarity


def test_a_blank_image_is_flat(blob_body, camera, start):
    body = blob_body()
    blank = np.zeros((camera.size_px[1], camera.size_px[0]), np.float32)
    found = register_bone(Search(body, _levels(blank, camera), start, OPTIONS))
    assert found.outcome is Outcome.FLAT
    assert not found.converged
    assert np.isinf(found.uncertainty.in_plane_mm)


def test_a_bone_off_the_image_is_off_image(blob_body, camera, start):
    body = blob_body()
    image = body.image(camera, start)[0]
    far = moved(start, np.array([0, 0, 0, 400.0, 0, 0]), body.pivot_world_mm)
    assert register_bone(Search(body, _levels(image, camera), far, OPTIONS)).outcome is Outcome.OFF_IMAGE


def test_a_bone_behind_the_source_is_off_image(blob_body, camera, start):
    body = blob_body()
    image = body.image(camera, start)[0]
    behind = moved(start, np.array([0, 0, 0, 0, 0, -2000.0]), body.pivot_world_mm)
    assert register_bone(Search(body, _levels(image, camera), behind, OPTIONS)).outcome is Outcome.OFF_IMAGE


def test_a_truth_beyond_the_bounds_ends_at_bounds(blob_body, camera, start):
    body = blob_body()
    tight = RegistrationOptions(
        starts=3,
        level_pixel_mm=OPTIONS.level_pixel_mm,
        start_in_plane_mm=4.0,
        bound_in_plane_mm=6.0,
    )
    levels = _levels(body.image(camera, _away(start, body, (0, 0, 0, 9.0, 0, 0)))[0], camera)
    assert register_bone(Search(body, levels, start, tight)).outcome is Outcome.AT_BOUNDS


@pytest.mark.parametrize("seed", [1, 2])
def test_an_unrelated_image_is_never_converged(blob_body, camera, start, seed):
    body = blob_body()
    unrelated = blob_body(seed=100 + seed).image(camera, start)[0]
    found = register_bone(Search(body, _levels(unrelated, camera, noise=0.1), start, OPTIONS))
    assert not found.converged, found.similarity


def test_noise_alone_is_low_similarity_or_at_bounds(blob_body, camera, start):
    noise = np.random.default_rng(0).normal(size=(80, 96))
    found = register_bone(Search(blob_body(), _levels(noise, camera), start, OPTIONS))
    assert found.outcome in (Outcome.LOW_SIMILARITY, Outcome.AT_BOUNDS)
    assert found.similarity < 0.4


def test_steps_that_run_out_are_diverged(blob_body, camera, start):
    body = blob_body()
    hurried = RegistrationOptions(starts=1, level_pixel_mm=(3.0,), max_steps=1)
    levels = _levels(body.image(camera, _away(start, body, (2, 1, 1, 2, 2, 5)))[0], camera)
    assert register_bone(Search(body, levels, start, hurried)).outcome is Outcome.DIVERGED


def test_between_two_equal_bones_starts_disagree(blob_body, camera, start):
    body = blob_body(n=6, spread_mm=15.0)
    twin = moved(start, np.array([0, 0, 0, 34.0, 0, 0]), body.pivot_world_mm)
    image = body.image(camera, start)[0] + body.image(camera, twin)[0]
    between = moved(start, np.array([0, 0, 0, 17.0, 0, 0]), body.pivot_world_mm)
    options = RegistrationOptions(starts=8, level_pixel_mm=(6.0, 3.0), start_in_plane_mm=25.0)
    found = register_bone(Search(body, _levels(image, camera), between, options))
    poses = [start_.camera_from_world for start_ in found.starts]
    at = {round(float(transform_points(pose, body.pivot_world_mm)[0]) / 34.0) for pose in poses}
    assert found.outcome is Outcome.DISAGREEING_STARTS, (found.outcome, at)


@pytest.mark.parametrize("doubt", [Outcome.AMBIGUOUS, Outcome.DISAGREEING_STARTS])
def test_a_doubt_outlives_the_refinement(blob_body, camera, start, doubt):
    body = blob_body()
    search = Search(body, _levels(body.image(camera, start)[0], camera), start, OPTIONS)
    found = register_bone(search)
    assert refine_bone(search, found, robust=False).outcome is Outcome.CONVERGED
    assert refine_bone(search, replace(found, outcome=doubt), robust=False).outcome is doubt
