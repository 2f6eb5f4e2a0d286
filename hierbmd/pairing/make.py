"""From a CT and a radiograph to training pairs: each side measured, its bones registered and projected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.areal import mean_bmd_g_cm2, project_density, project_region
from hierbmd.anatomy.hip import Hip, measure_hip
from hierbmd.anatomy.options import HipRegion
from hierbmd.anatomy.shape import world_points
from hierbmd.data.calibration import Calibration
from hierbmd.data.halves import Half, half_radiograph
from hierbmd.data.pairs import BONES
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, HierbmdError
from hierbmd.geometry import ProjectionGeometry, Side
from hierbmd.pairing.options import PairingOptions
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.patient import register_bones
from hierbmd.rigid import Matrix, transform_points
from hierbmd.units import METAL_HU

Result = TypeVar("Result")

LEAST_ON_IMAGE = 0.98
"""The share of the region that the radiograph must show."""


@dataclass(frozen=True)
class PairImages:
    """The images of a pair in the canonical half frame; see TrainingPair. `region_bmd_g_cm2` is what they read.

    `at_pose_g_cm2` has by name what every region of the hip reads at the radiograph's pose, None for one off the image.
    """

    radiograph: NDArray[np.float32]
    bones: NDArray[np.float32]
    region: NDArray[np.float32]
    region_mask: NDArray[np.uint8]
    region_bmd_g_cm2: float
    at_pose_g_cm2: Mapping[HipRegion, float | None]


def pair_images(hip: Hip, half: Half, poses: Mapping[str, Matrix]) -> PairImages:
    """Project a hip's calibrated bones, each at its own pose (camera_from_world 4x4 by "hip" and "femur").

    The region moves with the femur. BadRegion when less than 98 % of it is on the radiograph; RaysMissVolume when a
    bone is not on it at all.
    """
    require_on_image(hip, half, poses["femur"])
    camera, canonical = half.geometry.camera, half.geometry.canonical
    masks = {"hip": hip.pelvis, "femur": hip.femur}
    bones = np.stack([project_density(hip.density, masks[bone], camera, poses[bone]) for bone in BONES])
    projected = {
        name: project_region(hip.density, one.mask, camera, poses["femur"]) for name, one in hip.regions.items()
    }
    region, seen = projected[hip.target]
    return PairImages(
        radiograph=half.pixels,
        bones=canonical(bones),
        region=canonical(region),
        region_mask=canonical(seen),
        region_bmd_g_cm2=mean_bmd_g_cm2(region, seen),
        at_pose_g_cm2={
            name: mean_bmd_g_cm2(areal, where) if where.any() else None for name, (areal, where) in projected.items()
        },
    )


def require_on_image(hip: Hip, half: Half, camera_from_world: Matrix) -> None:
    """Raise BadRegion when the radiograph cuts the region off."""
    points = transform_points(camera_from_world, world_points(hip.region, hip.density.grid))
    columns, rows = np.rint(half.geometry.canonical_pixels(points)).astype(int).T
    height, width = half.covered.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    shown = inside.copy()
    shown[inside] = half.covered[rows[inside], columns[inside]]
    if np.mean(shown) < LEAST_ON_IMAGE:
        raise BadRegion(
            f"only {np.mean(shown):.0%} of the region is on the {hip.side} half of the radiograph",
            mend="a larger frame, or a radiograph that shows the whole hip",
        )


@dataclass(frozen=True)
class Patient:
    """What a radiograph is paired with: the CT in HU, labels on its grid, and the line to density."""

    volume: Volume
    labels: LabelMap
    calibration: Calibration


@dataclass(frozen=True)
class MadePair:
    """A pair that can be used, with what it was made from; `found` has the registration of "hip" and of "femur"."""

    hip: Hip
    half: Half
    images: PairImages
    found: Mapping[str, BoneRegistration]


@dataclass(frozen=True)
class Refused:
    """A side that gave no pair: at which stage, and why."""

    side: Side
    stage: str
    error_class: str
    reason: str


@dataclass(frozen=True)
class RadiographPairs:
    """What one radiograph gave: its pairs, the sides refused, and every bone's registration by its name."""

    made: list[MadePair]
    refused: list[Refused]
    found: Mapping[str, BoneRegistration]


Registrar = Callable[..., Mapping[str, BoneRegistration]]


def make_pairs(
    patient: Patient,
    radiograph: Radiograph,
    start: ProjectionGeometry,
    sides: Sequence[Side],
    *,
    options: PairingOptions,
    registrar: Registrar = register_bones,
) -> RadiographPairs:
    """The pairs of one radiograph: each side measured, all bones registered together, each side projected.

    A side that cannot be measured, registered or projected is refused and the other goes on. Only poses that converged
    become targets. `registrar` is `register_bones`, or what has its signature.
    """
    made: list[MadePair] = []
    refused: list[Refused] = []
    hips = _each(sides, "measure", refused, lambda side: _measured(patient, side, options))
    if not hips:
        return RadiographPairs(made, refused, {})
    bones = [f"{bone}_{side}" for side in hips for bone in ("femur", "hip")]
    found = registrar(patient.volume, patient.labels, radiograph, start, bones=bones, options=options.registration)

    def one(side: Side) -> MadePair:
        by_bone = {bone: found[f"{bone}_{side}"] for bone in BONES}
        half = half_radiograph(radiograph, side, options.frame, camera=start.camera)
        poses = {bone: result.camera_from_world for bone, result in by_bone.items()}
        return MadePair(hips[side], half, pair_images(hips[side], half, poses), by_bone)

    for side in list(hips):
        lost = {bone: found[f"{bone}_{side}"] for bone in BONES if not found[f"{bone}_{side}"].converged}
        if lost:
            reason = "; ".join(f"{bone}: {result.outcome.value}" for bone, result in lost.items())
            refused.append(Refused(side, "register", next(iter(lost.values())).outcome.name, reason))
    usable = [side for side in hips if all(found[f"{bone}_{side}"].converged for bone in BONES)]
    made += _each(usable, "project", refused, one).values()
    return RadiographPairs(made, refused, found)


def _measured(patient: Patient, side: Side, options: PairingOptions) -> Hip:
    hip = measure_hip(patient.volume, patient.labels, side, patient.calibration, options=options.region)
    if hip.has_metal and not options.keep_metal:
        raise BadRegion(
            f"metal in the {side} hip: {hip.metal_mm3:.0f} mm3 above {METAL_HU:.0f} HU", mend="--keep-metal keeps it"
        )
    return hip


def _each(
    sides: Sequence[Side], stage: str, refused: list[Refused], work: Callable[[Side], Result]
) -> dict[Side, Result]:
    """What `work` gives for each side; a side it refuses is added to `refused`."""
    answers = {}
    for side in sides:
        try:
            answers[side] = work(side)
        except HierbmdError as error:
            refused.append(Refused(side, stage, type(error).__name__, str(error)))
    return answers
