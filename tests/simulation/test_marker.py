"""Side markers: the right letter, readable, where radiographers put it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.physics.collimator import Field
from hierbmd.physics.spectrum import tube_spectrum
from hierbmd.simulation.marker import Marker, covered_share, draw_marker, lead_transmission

CAMERA = Camera(1150.0, (200, 180), (2.0, 2.0))


def _geometry(view=View.AP, side=Side.BOTH):
    pose = Placement(view, np.zeros(3), 1000.0).camera_from_world(Motion())
    return ProjectionGeometry(CAMERA, pose, view, side)


def _markers(geometry, field=None, count=300):
    drawn = [draw_marker(np.random.default_rng(seed), geometry, field) for seed in range(count)]
    return [m for m in drawn if m is not None]


@pytest.mark.parametrize("view", [View.AP, View.PA])
def test_the_letter_lies_on_the_side_that_it_names(view):
    """A point a step to the patient's left of the middle projects to the half of the image where an L lies."""
    geometry = _geometry(view)
    left_px = CAMERA.pixels_from_camera(geometry.camera_from_world[:3, :3] @ [100.0, 0, 0] + [0, 0, 1000.0])
    towards_left = np.sign(left_px[0] - CAMERA.centre_px[0])
    markers = _markers(geometry)
    assert {m.letter for m in markers} == {"L", "R"}
    for marker in markers:
        assert np.sign(marker.centre_mm[0]) == towards_left * (1 if marker.letter == "L" else -1)


@pytest.mark.parametrize(("side", "letter"), [(Side.LEFT, "L"), (Side.RIGHT, "R")])
def test_one_sided_images_bear_their_own_letter(side, letter):
    assert {m.letter for m in _markers(_geometry(side=side))} == {letter}
    assert not _markers(_geometry(side=Side.NONE))


def test_kinds_and_places_come_in_their_shares():
    field = Field((10.0, -5.0), (300.0, 280.0), rotation_deg=2.0)
    geometry = _geometry()
    drawn = [draw_marker(np.random.default_rng(seed), geometry, field) for seed in range(1500)]
    kinds = [None if m is None else m.kind for m in drawn]
    for kind, share in (("lead", 0.6), ("digital", 0.35), (None, 0.05)):
        assert kinds.count(kind) / len(kinds) == pytest.approx(share, abs=0.03)
    inside = field.contains(CAMERA)
    cut = 0
    for marker in (m for m in drawn if m is not None):
        covered = covered_share(CAMERA, marker) > 0
        cut += not np.all(inside[covered])
        assert covered.any()
        assert marker.kind == "lead" or np.all(inside[covered])
    assert cut / kinds.count("lead") == pytest.approx(1 / 9, abs=0.03)


def test_an_l_looks_like_an_l_and_an_r_like_an_r():
    """Ink at the foot on the right for L; at the head on the right, and a hole in the bowl, for R."""
    camera = Camera(1150.0, (101, 101), (0.4, 0.4))

    def ink(letter, **more):
        return covered_share(camera, Marker(letter, "lead", (0.0, 0.0), height_mm=30.0, **more))

    ell, arr = ink("L"), ink("R")
    assert ell[82, 65] == 1.0
    assert ell[30, 60] == 0.0
    assert arr[19, 50] == 1.0
    assert arr[35, 46] == 0.0
    assert arr[35, 68] == 1.0
    for letter, strokes in ((ell, 1.42), (arr, 2.7)):
        assert letter[50, 31] == 1.0
        assert letter.sum() * 0.16 == pytest.approx(30**2 * 0.18 * strokes, rel=0.2)
    turned = ink("L", rotation_deg=90.0)
    assert turned == pytest.approx(np.rot90(ell, -1), abs=1e-5)


def test_the_share_is_the_area_at_any_pixel_size():
    fine, coarse = (Camera(1150.0, (n, n), (80.0 / n, 80.0 / n)) for n in (320, 40))
    marker = Marker("R", "lead", (3.0, -2.0), height_mm=20.0, rotation_deg=10.0)
    areas = [covered_share(c, marker).sum() * c.pixel_mm[0] ** 2 for c in (fine, coarse)]
    assert areas[0] == pytest.approx(areas[1], rel=0.08)


def test_lead_of_a_letter_stops_nearly_all():
    assert 0.0001 < lead_transmission(tube_spectrum(80.0, "3.0 mm Al + 0.1 mm Cu")) < 0.01


def test_a_marker_beside_the_detector_covers_nothing():
    away = dataclasses.replace(_markers(_geometry())[0], centre_mm=(2000.0, 0.0))
    assert not covered_share(CAMERA, away).any()
