"""The real torso CT: bones brought back from simulated radiographs at other poses, the femur moved on its own.

The trials are those of the benchmark: starts anywhere within 15 degrees, 30 mm along each axis and 60 mm in depth.
"""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def trial(bench, torso):
    """`trial(number)` is a row a bone of one random pose, femur motion and start."""
    return lambda number: bench("torso_trials").run_trial(torso, number)["bones"]


def test_femur_hips_and_lumbar_vertebrae_come_back_from_a_far_start(trial):
    for bone in trial(0):
        assert bone["outcome"] == "converged", bone
        assert bone["in_plane_mm"] < 1.0, bone
        assert bone["stated"][5] > bone["in_plane_stated_mm"], "one view hardly shows depth"


@pytest.mark.slow
def test_twelve_random_poses_and_starts(trial):
    bones = [bone for number in range(1, 13) for bone in trial(number)]
    in_plane = np.array([bone["in_plane_mm"] for bone in bones])
    converged = np.array([bone["outcome"] == "converged" for bone in bones])
    assert np.median(in_plane) <= 0.5
    assert np.mean(in_plane <= 2.0) >= 0.95
    assert np.mean(converged) >= 0.9
    assert not np.any(converged & (in_plane > 2.0)), "a wrong pose was called converged"
