"""Starts cover their ranges, and sliding finds a shifted bone."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.registration.features import gradient_filter
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.starts import shift_scores, slide_in_plane, spread_starts
from hierbmd.rigid import moved, transform_points


def _level(image, camera, pixel_mm=3.0):
    return make_levels(image.astype(np.float32), camera, pixel_mm=(pixel_mm,), smoothing_px=1.0)[0]


def test_starts_begin_with_the_given_one_and_stay_in_range(start):
    options = RegistrationOptions(starts=20, start_rotation_deg=7.0, start_depth_mm=12.0)
    pivot = np.array([5.0, 5.0, 5.0])
    poses = spread_starts(start, pivot, options)
    assert len(poses) == 20
    assert np.array_equal(poses[0], start)
    depths = [transform_points(pose, pivot)[2] - transform_points(start, pivot)[2] for pose in poses]
    assert max(np.abs(depths)) <= 12.0
    assert min(depths) < -6.0 < 6.0 < max(depths)
    again = spread_starts(start, pivot, options)
    assert all(np.array_equal(a, b) for a, b in zip(poses, again, strict=True))
    other = spread_starts(start, pivot, RegistrationOptions(starts=20, seed=1))
    assert not np.allclose(poses[1], other[1])


def test_one_start_is_the_given_one(start):
    assert len(spread_starts(start, np.zeros(3), RegistrationOptions(starts=1))) == 1


def test_scores_match_a_direct_sum(blob_body, camera, start):
    body = blob_body()
    small = camera.resized(4)
    level = _level(np.random.default_rng(0).normal(size=(20, 24)), small, 12.0)
    image = body.image(small, start)[0]
    spoilt = np.zeros(image.shape, bool)
    spoilt[:, :5] = True
    scores = shift_scores(level, image, observed=level.features, spoilt=spoilt)
    model = np.where(spoilt, 0, gradient_filter(small.size_px, 1.0)(image))
    powers = []
    for down, right in [(0, 0), (2, -3), (-4, 1)]:
        moved_model = np.zeros_like(model)
        for row in range(20):
            for column in range(24):
                if 0 <= row - down < 20 and 0 <= column - right < 24:
                    moved_model[:, row, column] = model[:, row - down, column - right]
        weights = level.trust.astype(float) ** 2
        powers.append(np.sum(weights * moved_model**2))
        direct = np.sum(weights * level.features * moved_model) / np.sqrt(powers[-1])
        assert scores[19 + down, 23 + right] == pytest.approx(direct, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("shift", [(12.0, 0.0), (-9.0, 14.0)])
def test_sliding_finds_a_shift_to_within_a_pixel(blob_body, camera, start, shift):
    body, other = blob_body(), blob_body(seed=5, centre=(0.0, 10.0, 50.0))
    there = moved(start, np.array([0, 0, 0, *shift, 0]), body.pivot_world_mm)
    image = body.image(camera, there)[0] + other.image(camera, start)[0]
    (slid,) = slide_in_plane(_level(image, camera), body, start, range_mm=25.0, others=((other, start),))
    error = transform_points(slid, body.pivot_world_mm) - transform_points(there, body.pivot_world_mm)
    assert np.hypot(error[0], error[1]) < 3.0


def test_sliding_keeps_to_its_range(blob_body, camera, start):
    body = blob_body()
    there = moved(start, np.array([0, 0, 0, 30.0, 0, 0]), body.pivot_world_mm)
    (slid,) = slide_in_plane(_level(body.image(camera, there)[0], camera), body, start, range_mm=10.0)
    assert abs(transform_points(slid, body.pivot_world_mm)[0] - transform_points(start, body.pivot_world_mm)[0]) <= 10.0
