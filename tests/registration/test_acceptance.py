"""The real torso CT: bones brought back from simulated radiographs at other poses, the femur moved on its own."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.registration.body import surface_points
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.patient import register_bones
from hierbmd.registration.start import centre_of
from hierbmd.registration.target import target_error
from hierbmd.rigid import invert_rigid, moved
from hierbmd.simulation.radiograph import simulate_radiograph

BONES = ("femur_right", "hip_left", "hip_right")
CAMERA = Camera(1100.0, (256, 256), (1.72, 1.72))


@pytest.fixture(scope="module")
def torso(shared_data):
    folder = shared_data / "torso-ct"
    volume = read_volume(folder / "example_ct.nii.gz")
    return volume, read_labels(folder / "example_ct_totalseg_labels.nii.gz", onto=volume.grid)


def _up_to(rng, largest):
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction) * rng.uniform(0, largest)


def trial(volume, labels, number):
    """In-plane and depth errors, mm, and outcomes by bone, of one random pose, femur motion and start.

    The start is within 5 degrees and 15 mm; the femur turns by up to 8 degrees about each axis against the pelvis.
    """
    rng = np.random.default_rng([2, number])
    centre = centre_of(labels, BONES)
    motion = Motion(*rng.uniform(-5, 5, 3), *rng.uniform(-10, 10, 2), rng.uniform(-25, 25))
    pose = Placement(View.AP, centre, 970.0).camera_from_world(motion)
    turn = np.r_[np.radians(rng.uniform(-8, 8, 3)), rng.uniform(-2, 2, 3)]
    femur = invert_rigid(pose) @ moved(pose, turn, centre_of(labels, ("femur_right",)))
    geometry = ProjectionGeometry(CAMERA, pose, View.AP, Side.BOTH)
    radiograph = simulate_radiograph(volume, labels, geometry, seed=number, bone_motions={"femur_right": femur})
    off = moved(pose, np.r_[np.radians(_up_to(rng, 5.0)), _up_to(rng, 15.0)], centre)
    start = ProjectionGeometry(CAMERA, off, View.AP, Side.BOTH)
    found = register_bones(volume, labels, radiograph, start, bones=BONES, options=RegistrationOptions())
    truth = {name: pose @ femur if name == "femur_right" else pose for name in BONES}
    return {
        name: (
            target_error(result.camera_from_world, truth[name], surface_points(labels, name)),
            result,
        )
        for name, result in found.items()
    }


def test_a_real_femur_and_both_hips_come_back_from_another_pose(torso):
    for name, (error, result) in trial(*torso, 0).items():
        assert result.converged, (name, result.outcome)
        assert error.in_plane_mm < 2.0
        assert result.uncertainty.depth_mm > result.uncertainty.in_plane_mm


@pytest.mark.slow
def test_twenty_random_poses_and_starts(torso):
    trials = [trial(*torso, number) for number in range(20)]
    for name in BONES:
        errors = np.array([one[name][0].in_plane_mm for one in trials])
        converged = np.array([one[name][1].converged for one in trials])
        assert np.mean(errors) < 2.0
        assert np.mean(errors < 2.0) >= 0.95
        assert np.mean(converged) >= 0.95
        assert not np.any(converged & (errors >= 2.0)), "a wrong pose was called converged"
