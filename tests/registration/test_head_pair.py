"""A real projection and a real CT in one frame: a head phantom's skull, brought back to the header's pose."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.geometry import Beam, View


@pytest.fixture(scope="module")
def head_pair(bench, shared_data):
    """The benchmark's module of the pair."""
    assert shared_data.is_dir()
    return bench("head_pair")


def test_the_headers_geometry(head_pair):
    pair = head_pair.read_pair()
    header = pair.header
    assert (header.camera.beam, header.view) == (Beam.SLOT, View.LAT)
    assert header.camera.pixel_mm == pytest.approx((0.9765625 * 1040 / 570, 0.9765625))
    assert pair.radiograph.camera == header.camera
    isocentre = np.array([0.0, -124.8 + 255.5 * 0.9765625, 700.0])
    seen = header.camera_from_world @ np.r_[isocentre, 1.0]
    assert seen[[0, 2]] == pytest.approx([0.0, 570.0])
    u, v = header.camera.pixels_from_camera(seen[None, :3])[0]
    assert (u, v) == pytest.approx((255.5, (916.5 - 700.0) / 0.9765625))


@pytest.mark.parametrize("number", range(3))
def test_the_skull_comes_back_to_the_headers_pose(head_pair, number):
    row = head_pair.run_pair(number)
    assert row["outcome"] == "converged"
    assert row["in_plane_mm"] < 2.0
    assert row["turn_deg"] < 1.0


def test_a_source_on_the_other_side_fits_less_well(head_pair):
    there, mirrored = (head_pair.run_depth(name) for name in ("as the header says", "the source on the other side"))
    assert mirrored["similarity"] < there["similarity"] - 0.03
    assert mirrored["turn_deg"] > 1.0


def test_depth_is_as_good_as_the_pixel_width(head_pair):
    given, wider = (head_pair.run_depth(name) for name in ("as the header says", "pixels 1.1 % wider across the fan"))
    assert given["depth_mm"] - wider["depth_mm"] == pytest.approx(0.011 * 576.0, rel=0.1)
    assert wider["similarity"] == pytest.approx(given["similarity"], abs=0.002)


@pytest.mark.slow
def test_fifty_random_starts(head_pair):
    rows = [head_pair.run_pair(number) for number in range(50)]
    right = np.array([row["in_plane_mm"] < 2.0 and row["turn_deg"] < 1.0 for row in rows])
    converged = np.array([row["outcome"] == "converged" for row in rows])
    assert right.mean() >= 0.9
    assert not np.any(converged & ~right)
