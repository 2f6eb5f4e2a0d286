"""What a registration leaves on disk, and the start that a radiograph gives by itself."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import BadConfig, GeometryMissing, ViewConflict
from hierbmd.geometry import Camera, ProjectionGeometry, View
from hierbmd.io.geometry_file import read_geometry
from hierbmd.registration.body import make_body
from hierbmd.registration.files import write_registrations
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration, Outcome, Uncertainty
from hierbmd.registration.overlay import OUTLINE_RGB, overlay
from hierbmd.registration.start import centre_of, start_geometry
from hierbmd.rigid import transform_points

CAMERA = Camera(1000.0, (96, 80), (3.0, 3.0))


@pytest.fixture
def radiograph(small_pelvis, start):
    volume, labels = small_pelvis
    body = make_body("hip_left", volume, labels, structures=("hip_left",), metal_hu=3000.0)
    pixels = body.image(CAMERA, start)[0]
    return Radiograph(pixels, CAMERA.pixel_mm, CAMERA.sdd_mm, 850.0, View.AP)


def _result(outcome, pose, depth=4.0):
    errors = Uncertainty(0.1, 0.2, 0.3, 0.4, 0.5, depth, 0.6, 0.0)
    return BoneRegistration("hip_left", pose, outcome, 0.8, errors, (), 0.5)


def test_files_of_a_converged_and_of_a_lost_bone(small_pelvis, radiograph, start, tmp_path):
    volume, labels = small_pelvis
    geometry = ProjectionGeometry(CAMERA, start, View.AP)
    found = {
        "hip_left": _result(Outcome.CONVERGED, start),
        "femur_left": replace(_result(Outcome.FLAT, start, depth=np.inf), name="femur_left"),
    }
    (tmp_path / "femur_left.geometry.json").write_text("of an earlier run")
    write_registrations(
        tmp_path,
        found,
        volume=volume,
        labels=labels,
        radiograph=radiograph,
        start=geometry,
        options=RegistrationOptions(),
    )
    written = json.loads((tmp_path / "registration.json").read_text())
    hip, femur = written["bones"]["hip_left"], written["bones"]["femur_left"]
    assert hip["outcome"] == "converged"
    assert np.allclose(hip["camera_from_world"], start)
    assert set(hip) >= {"camera_from_world", "outcome", "similarity", "uncertainty", "starts", "seconds"}
    assert femur["outcome"].startswith("flat")
    assert femur["uncertainty"]["depth_mm"] is None
    assert "Research use only" in written["research_use_only"]
    assert written["standard_errors_to_95_interval"] > 1.96, "bones' misfit is more than a Gaussian's"
    assert np.allclose(read_geometry(tmp_path / "hip_left.geometry.json").camera_from_world, start)
    assert not (tmp_path / "femur_left.geometry.json").exists()
    assert (tmp_path / "femur_left.png").stat().st_size > 1000


def test_overlay_draws_the_outline_where_the_bone_is(small_pelvis, radiograph, start):
    volume, labels = small_pelvis
    body = make_body("hip_left", volume, labels, structures=("hip_left",), metal_hu=3000.0)
    picture = overlay(radiograph.pixels, CAMERA, body, start)
    assert picture.dtype == np.uint8
    assert picture.shape[0] == 640
    width = picture.shape[1] // 2
    outline = np.all(picture[:, :width] == OUTLINE_RGB, axis=2)
    bright = picture[:, :width, 2] > 60
    assert outline.sum() > 500
    assert not np.all(picture[:, width:] == OUTLINE_RGB, axis=2).any()
    rows, columns = np.nonzero(outline)
    seen_rows, seen_columns = np.nonzero(bright & ~outline)
    assert abs(rows.min() - seen_rows.min()) < 40
    assert abs(columns.max() - seen_columns.max()) < 40


def test_overlay_of_a_bone_off_the_image_is_the_whole_image(small_pelvis, radiograph, start):
    volume, labels = small_pelvis
    body = make_body("hip_left", volume, labels, structures=("hip_left",), metal_hu=3000.0)
    away = np.array(start)
    away[0, 3] += 2000.0
    picture = overlay(radiograph.pixels, CAMERA, body, away)
    assert picture.shape == (640, 2 * 768, 3)
    assert not np.all(picture == OUTLINE_RGB, axis=2).any()


def test_start_puts_the_bones_centre_on_the_axis(small_pelvis, radiograph):
    _, labels = small_pelvis
    geometry = start_geometry(radiograph, labels, ("hip_left", "femur_left"))
    centre = transform_points(geometry.camera_from_world, centre_of(labels, ("hip_left", "femur_left")))
    assert np.allclose(centre, [0, 0, 850.0])
    assert geometry.view is View.AP


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"sdd_mm": None}, GeometryMissing, "--sdd-mm"),
        ({"pixel_mm": None}, GeometryMissing, "--pixel-mm"),
        ({"source_isocentre_mm": None}, GeometryMissing, "--source-isocenter-mm"),
        ({"view": None}, ViewConflict, "--view"),
    ],
)
def test_what_a_radiograph_does_not_say_is_asked_for(small_pelvis, radiograph, change, error, text):
    with pytest.raises(error, match=text):
        start_geometry(replace(radiograph, **change), small_pelvis[1], ("hip_left",))


@pytest.mark.parametrize(
    "wrong", [{"starts": 0}, {"level_pixel_mm": ()}, {"bound_in_plane_mm": 10.0}, {"max_steps": 0}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(BadConfig):
        RegistrationOptions(**wrong)
