"""Simulated radiographs of the torso CT at random poses, the femur moved on its own, and starts away from them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from tasks import shared_data

from hierbmd.anatomy.femur import femoral_head
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.registration.body import surface_points
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.patient import register_bones
from hierbmd.registration.refine import Box
from hierbmd.registration.start import centre_of
from hierbmd.registration.target import target_error
from hierbmd.rigid import Matrix, Vector, invert_rigid, moved
from hierbmd.simulation.radiograph import simulate_radiograph

BONES = ("femur_right", "hip_left", "hip_right", "vertebrae_L3", "vertebrae_L4", "vertebrae_L5")
FIELD_MM, SDD_MM, SOURCE_ISOCENTRE_MM = 440.0, 1100.0, 970.0
START_DEG, START_IN_PLANE_MM, START_DEPTH_MM = 15.0, 30.0, 60.0
FEMUR_DEG, FEMUR_MM = 8.0, 0.5
"""The femur against the pelvis: turned about its head's centre, as in its joint, and slipped in it along each axis."""

OPTIONS = RegistrationOptions(
    start_rotation_deg=START_DEG,
    start_in_plane_mm=45.0,
    start_depth_mm=START_DEPTH_MM,
    bound_rotation_deg=35.0,
    bound_in_plane_mm=60.0,
    bound_depth_mm=120.0,
)
"""The search as wide as the starts are off: 15 degrees, 45 mm (30 along each axis), 60 mm in depth; six starts."""

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Torso:
    """The CT in HU and its labels, the centre of the pelvis, about which poses turn, and that of the femur's head."""

    volume: Volume
    labels: LabelMap
    centre_world_mm: Vector
    joint_world_mm: Vector


@dataclass(frozen=True)
class Trial:
    """One radiograph with each bone's true pose, and where the search starts."""

    radiograph: Radiograph
    start: ProjectionGeometry
    truth: dict[str, Matrix]


def read_torso() -> Torso:
    """The torso CT of the shared data."""
    folder = shared_data() / "torso-ct"
    volume = read_volume(folder / "example_ct.nii.gz")
    labels = read_labels(folder / "example_ct_totalseg_labels.nii.gz", onto=volume.grid)
    head = femoral_head(labels.mask(BONES[0]), labels.grid)
    return Torso(volume, labels, centre_of(labels, BONES[:3]), head.centre_world_mm)


def camera_of(pixels: int) -> Camera:
    """A detector of 440 mm with `pixels` a side, 1100 mm from the source."""
    return Camera(SDD_MM, (pixels, pixels), (FIELD_MM / pixels, FIELD_MM / pixels))


def random_pose(torso: Torso, rng: np.random.Generator) -> Matrix:
    """AP with the pelvis in the middle, turned by up to 5 degrees, up to 10 mm in plane and 25 mm in depth away."""
    motion = Motion(*rng.uniform(-5, 5, 3), *rng.uniform(-10, 10, 2), rng.uniform(-25, 25))
    return Placement(View.AP, torso.centre_world_mm, SOURCE_ISOCENTRE_MM).camera_from_world(motion)


def make_trial(torso: Torso, number: int, *, pixels: int = 256) -> Trial:
    """A radiograph at a random pose, the femur moved against the pelvis; the start anywhere in the box around it."""
    rng = np.random.default_rng([17, number])
    pose = random_pose(torso, rng)
    turn = np.r_[np.radians(rng.uniform(-FEMUR_DEG, FEMUR_DEG, 3)), rng.uniform(-FEMUR_MM, FEMUR_MM, 3)]
    femur = invert_rigid(pose) @ moved(pose, turn, torso.joint_world_mm)
    camera = camera_of(pixels)
    geometry = ProjectionGeometry(camera, pose, View.AP, Side.BOTH)
    radiograph = simulate_radiograph(
        torso.volume, torso.labels, geometry, seed=number, bone_motions={"femur_right": femur}
    )
    half = np.r_[np.full(3, np.radians(START_DEG)), START_IN_PLANE_MM, START_IN_PLANE_MM, START_DEPTH_MM]
    off = moved(pose, rng.uniform(-half, half), torso.centre_world_mm)
    truth = {name: pose @ femur if name == "femur_right" else pose for name in BONES}
    return Trial(radiograph, ProjectionGeometry(camera, off, View.AP, Side.BOTH), truth)


def errors_of(torso: Torso, found: BoneRegistration, truth: Matrix) -> Row:
    """What a bone's registration came to against its truth, fit for JSON.

    `axes` is the true pose from the found one, per axis in camera axes about the bone's centroid, over its standard
    error.
    """
    error = target_error(found.camera_from_world, truth, surface_points(torso.labels, found.name))
    pivot = centre_of(torso.labels, (found.name,))
    off = Box(found.camera_from_world, pivot, np.full(6, np.inf)).coordinates(truth)
    off[:3] = np.degrees(off[:3])
    sure = found.uncertainty
    stated = (sure.rx_deg, sure.ry_deg, sure.rz_deg, sure.tx_mm, sure.ty_mm, sure.depth_mm)
    return {
        "bone": found.name,
        "in_plane_mm": error.in_plane_mm,
        "depth_mm": error.depth_mm,
        "outcome": found.outcome.name.lower(),
        "similarity": found.similarity,
        "error": off.tolist(),
        "stated": [float(x) if np.isfinite(x) else None for x in stated],
        "in_plane_stated_mm": float(sure.in_plane_mm) if np.isfinite(sure.in_plane_mm) else None,
        "projections": found.steps,
        "seconds": found.seconds,
    }


def run_trial(torso: Torso, number: int) -> Row:
    """All bones of one trial registered: a row each, and the seconds of all of them together."""
    trial = make_trial(torso, number)
    wall, cpu = time.perf_counter(), time.process_time()
    found = register_bones(torso.volume, torso.labels, trial.radiograph, trial.start, bones=BONES, options=OPTIONS)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    bones = [errors_of(torso, one, trial.truth[name]) for name, one in found.items()]
    return {"wall_s": wall, "cpu_s": cpu, "bones": bones}
