"""What a person is told of a registration: the way it took, and how near it came to its limits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hierbmd.registration.bone import Search, refine_bone, register_bone
from hierbmd.registration.judge import doubt
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration, Outcome, Uncertainty
from hierbmd.registration.review import review_of, trajectory
from hierbmd.rigid import moved

OPTIONS = RegistrationOptions(starts=3, level_pixel_mm=(6.0, 3.0))


def _result(outcome=Outcome.CONVERGED, similarity=0.9, in_plane_mm=0.2):
    errors = Uncertainty(0.1, 0.1, 0.1, 0.1, 0.1, np.inf, in_plane_mm, 0.0)
    return BoneRegistration("hip_left", np.eye(4), outcome, similarity, errors, (), 0.5)


def test_the_path_leads_from_a_start_to_the_pose_that_was_found(blob_body, camera, start):
    body = blob_body()
    truth = moved(start, np.r_[np.radians([3.0, -4.0, 2.0]), 9.0, -8.0, 12.0], body.pivot_world_mm)
    levels = make_levels(body.image(camera, truth)[0], camera, pixel_mm=OPTIONS.level_pixel_mm, smoothing_px=1.0)
    search = Search(body, levels, start, OPTIONS)
    found = register_bone(search)
    again = refine_bone(search, found, robust=True)
    for result in (found, again):
        way = trajectory(result.path, result.camera_from_world, body.pivot_world_mm)
        assert np.array_equal(result.path[-1], result.camera_from_world)
        assert 4 < len(way) <= result.steps
        assert np.linalg.norm(way[0]) > 3.0
        assert np.allclose(way[-1], 0.0, atol=1e-9)
    assert again.path[: len(found.path)] == found.path


def test_a_trajectory_is_in_degrees_and_mm_about_the_centroid():
    pivot = np.array([10.0, -20.0, 30.0])
    final = np.eye(4)
    turned = moved(final, np.array([0, np.radians(5.0), 0, 1.0, 2.0, -3.0]), pivot)
    assert np.allclose(trajectory([turned, final], final, pivot), [[0, 5, 0, 1, 2, -3], [0] * 6])
    assert trajectory([], final, pivot).shape == (0, 6)


@pytest.mark.parametrize(
    ("similarity", "in_plane_mm", "expected"), [(1.0, 0.0, 0.0), (0.75, 0.1, 0.5), (0.9, 0.7, 0.7), (0.5, 0.1, 1.0)]
)
def test_doubt_is_one_at_a_limit(similarity, in_plane_mm, expected):
    assert doubt(_result(similarity=similarity, in_plane_mm=in_plane_mm), RegistrationOptions()) == pytest.approx(
        expected
    )


def test_what_did_not_converge_is_the_most_doubtful_and_null_in_json():
    lost = _result(Outcome.FLAT)
    assert doubt(lost, RegistrationOptions()) == np.inf
    review = review_of(lost, np.zeros(3), RegistrationOptions())
    assert review["doubt"] is None
    assert review["outcome"].startswith("flat: ")
    assert review["uncertainty"]["depth_mm"] is None
    json.dumps(review, allow_nan=False)
