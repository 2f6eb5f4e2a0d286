"""All bones of a made-up CT at once: each at its own pose, whatever the order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import GeometryMissing, LabelsMismatch
from hierbmd.geometry import Camera, Placement, ProjectionGeometry, View
from hierbmd.registration import patient
from hierbmd.registration.body import make_body, surface_points
from hierbmd.registration.bone import register_bone
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import Outcome
from hierbmd.registration.patient import register_bones
from hierbmd.registration.target import target_error
from hierbmd.rigid import moved

CAMERA = Camera(1000.0, (112, 112), (2.5, 2.5))
OPTIONS = RegistrationOptions(starts=3, level_pixel_mm=(7.5, 5.0, 2.5))
BONES = ("femur_left", "hip_left")


@pytest.fixture(scope="module")
def shot(small_pelvis):
    """A radiograph of the small pelvis, the femur turned against the hip; its start (off) and each bone's truth."""
    volume, labels = small_pelvis
    true = Placement(View.AP, np.array([20.0, 0.0, -20.0]), 850.0).camera_from_world()
    bodies = {name: make_body(name, volume, labels, structures=(name,), metal_hu=3000.0) for name in BONES}
    turn = np.r_[np.radians([4.0, -5.0, 3.0]), 1.5, -1.0, 0.0]
    truth = {"hip_left": true, "femur_left": moved(true, turn, bodies["femur_left"].pivot_world_mm)}
    image = sum(bodies[name].image(CAMERA, pose)[0] for name, pose in truth.items())
    rows, columns = np.mgrid[:112, :112] / 112.0
    noise = np.random.default_rng(0).normal(size=image.shape)
    pixels = np.sqrt(1.0 + image + 1.5 * np.cos(2 * columns) + rows) + 0.005 * noise
    radiograph = Radiograph(pixels.astype(np.float32), CAMERA.pixel_mm, CAMERA.sdd_mm, view=View.AP)
    off = moved(true, np.r_[np.radians([3.0, 2.0, -3.0]), 8.0, -9.0, 8.0], np.zeros(3))
    return radiograph, ProjectionGeometry(CAMERA, off, View.AP), truth


@pytest.fixture(scope="module")
def found(small_pelvis, shot):
    volume, labels = small_pelvis
    return register_bones(volume, labels, shot[0], shot[1], bones=BONES, options=OPTIONS)


def test_every_bone_is_found_at_its_own_pose(small_pelvis, shot, found):
    for name, result in found.items():
        error = target_error(result.camera_from_world, shot[2][name], surface_points(small_pelvis[1], name))
        assert result.converged, result.outcome
        assert error.in_plane_mm < 0.5
        assert result.uncertainty.depth_mm > 2 * result.uncertainty.tx_mm


def test_the_order_of_bones_and_a_second_run_change_nothing(small_pelvis, shot, found):
    volume, labels = small_pelvis
    again = register_bones(volume, labels, shot[0], shot[1], bones=BONES[::-1], options=OPTIONS)
    assert list(again) == list(BONES[::-1])
    for name in BONES:
        assert np.array_equal(again[name].camera_from_world, found[name].camera_from_world)
        assert again[name].similarity == found[name].similarity


def test_one_bone_asked_for_has_the_rest_as_background(small_pelvis, shot):
    volume, labels = small_pelvis
    alone = register_bones(volume, labels, shot[0], shot[1], bones=("femur_left",), options=OPTIONS)["femur_left"]
    error = target_error(alone.camera_from_world, shot[2]["femur_left"], surface_points(labels, "femur_left"))
    assert alone.converged
    assert error.in_plane_mm < 1.0


def test_a_blank_radiograph_gives_no_pose_for_any_bone(small_pelvis, shot):
    volume, labels = small_pelvis
    blank = shot[0].with_pixels(np.zeros((112, 112), np.float32))
    nothing = register_bones(volume, labels, blank, shot[1], bones=BONES, options=OPTIONS)
    assert not any(result.converged for result in nothing.values())


def test_refusals(small_pelvis, shot):
    volume, labels = small_pelvis
    small = replace(shot[1], camera=CAMERA.resized(2))
    with pytest.raises(GeometryMissing, match="112"):
        register_bones(volume, labels, shot[0], small, bones=BONES)
    with pytest.raises(LabelsMismatch, match="sacrum"):
        register_bones(volume, labels, shot[0], shot[1], bones=("sacrum",))


def test_a_bone_that_was_lost_is_found_from_its_neighbour(small_pelvis, shot, monkeypatch):
    volume, labels = small_pelvis
    looked_for = []

    def lose_the_femur_once(search):
        result = register_bone(search)
        looked_for.append(search.body.name)
        if search.body.name == "femur_left" and looked_for.count("femur_left") == 1:
            away = moved(result.camera_from_world, np.array([0, 0, 0, 60.0, 0, 0]), search.body.pivot_world_mm)
            return replace(result, camera_from_world=away, outcome=Outcome.AT_BOUNDS, similarity=0.1)
        return result

    monkeypatch.setattr(patient, "register_bone", lose_the_femur_once)
    found = register_bones(volume, labels, shot[0], shot[1], bones=BONES, options=OPTIONS)["femur_left"]
    assert looked_for.count("femur_left") == 2
    assert found.converged
    truth = shot[2]["femur_left"]
    assert target_error(found.camera_from_world, truth, surface_points(labels, "femur_left")).in_plane_mm < 0.5
