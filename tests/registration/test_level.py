"""Levels keep pixels and cameras together, and strong edges do not rule."""

from __future__ import annotations

import numpy as np

from hierbmd.geometry import Camera
from hierbmd.registration.level import make_levels


def test_levels_go_from_coarse_to_fine_with_the_camera_of_their_pixels():
    pixels = np.random.default_rng(0).normal(size=(256, 240)).astype(np.float32)
    levels = make_levels(pixels, Camera(1000.0, (240, 256), (1.0, 1.0)), pixel_mm=(8.0, 4.0, 2.0), smoothing_px=1.0)
    assert [level.camera.pixel_mm[0] for level in levels] == [8.0, 4.0, 2.0]
    assert all(level.pixels.shape == (level.camera.size_px[1], level.camera.size_px[0]) for level in levels)
    assert all(level.features.shape == (2, *level.pixels.shape) for level in levels)


def test_coarse_pixels_give_each_level_once_and_small_images_stay_usable():
    pixels = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    levels = make_levels(pixels, Camera(1000.0, (40, 40), (3.0, 3.0)), pixel_mm=(8.0, 4.0, 2.0), smoothing_px=1.0)
    assert [level.camera.size_px for level in levels] == [(20, 20), (40, 40)]


def test_a_blank_image_has_no_energy_and_no_trust():
    camera = Camera(1000.0, (64, 64), (2.0, 2.0))
    (level,) = make_levels(np.full((64, 64), 3.0, np.float32), camera, pixel_mm=(2.0,), smoothing_px=1.0)
    assert level.energy == 0.0
    assert not level.trust.any()


def test_a_collimation_edge_is_trusted_less_than_faint_structure():
    rng = np.random.default_rng(1)
    pixels = 0.02 * rng.normal(size=(128, 128)).astype(np.float32)
    pixels[:, 90:] -= 1.0
    camera = Camera(1000.0, (128, 128), (2.0, 2.0))
    (level,) = make_levels(pixels, camera, pixel_mm=(2.0,), smoothing_px=1.0)
    weighted = np.hypot(*level.features) * level.trust
    raw = np.hypot(*level.features)
    contrast = raw[:, 89:91].mean() / raw[:, 20:60].mean()
    evened = weighted[:, 89:91].mean() / weighted[:, 20:60].mean()
    assert contrast > 10
    assert evened < 0.35 * contrast


def test_gain_and_offset_of_the_image_change_nothing():
    pixels = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
    camera = Camera(1000.0, (64, 64), (2.0, 2.0))
    (one,) = make_levels(pixels, camera, pixel_mm=(2.0,), smoothing_px=1.0)
    (other,) = make_levels(40 * pixels + 1000, camera, pixel_mm=(2.0,), smoothing_px=1.0)
    assert np.allclose(one.features * one.trust, other.features * other.trust, atol=1e-4)
