"""From a CT and a radiograph to training pairs: each side, or the spine, measured, its bones registered, projected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.areal import MeasuredSite, mean_bmd_g_cm2, project_density, project_region
from hierbmd.anatomy.hip import measure_hip
from hierbmd.anatomy.shape import Mask, world_points
from hierbmd.anatomy.spine import measure_spine
from hierbmd.data.calibration import Calibration
from hierbmd.data.halves import Half, half_radiograph
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.site import SkeletalSite, site_of
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, HierbmdError, LabelsMismatch
from hierbmd.geometry import Camera, ProjectionGeometry, Side
from hierbmd.pairing.options import PairingOptions
from hierbmd.pairing.structures import NOTHING_FURTHER, Further, further_of
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

    `at_pose_g_cm2` has by name what every region of the site reads at the radiograph's pose, None for one off the
    image. `further` has the channels that `--structures` asks for, None without.
    """

    radiograph: NDArray[np.float32]
    bones: NDArray[np.float32]
    region: NDArray[np.float32]
    region_mask: NDArray[np.uint8]
    region_bmd_g_cm2: float
    at_pose_g_cm2: Mapping[str, float | None]
    further: NDArray[np.float32] | None = None


def pair_images(
    measured: MeasuredSite, half: Half, poses: Mapping[str, Matrix], further: Further = NOTHING_FURTHER
) -> PairImages:
    """Project a site's calibrated bones, each at its own pose (camera_from_world 4x4 by bone).

    A region moves with the bones that it is of: a hip's with the femur, a lumbar one's parts with their vertebrae.
    BadRegion when less than 98 % of the target is on the radiograph; RaysMissVolume when a bone is not on it at all.
    """
    require_on_image(measured, half, poses)
    camera, canonical = half.geometry.camera, half.geometry.canonical
    bones = np.stack(
        [project_density(measured.density, mask, camera, poses[bone]) for bone, mask in measured.bones.items()]
    )
    projected = {name: _project(measured, one.mask, camera, poses) for name, one in measured.regions.items()}
    region, seen = projected[measured.target]
    shown = [projected[name][0] for name in further.regions]
    shown += [one.image(half.geometry, poses) for one in further.structures]
    return PairImages(
        radiograph=half.pixels,
        bones=canonical(bones),
        region=canonical(region),
        region_mask=canonical(seen),
        region_bmd_g_cm2=mean_bmd_g_cm2(region, seen),
        at_pose_g_cm2={
            name: mean_bmd_g_cm2(areal, where) if where.any() else None for name, (areal, where) in projected.items()
        },
        further=canonical(np.stack(shown)) if shown else None,
    )


def _project(
    measured: MeasuredSite, region: Mask, camera: Camera, poses: Mapping[str, Matrix]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A region's areal density, (H, W) g/cm2, and where it is seen, its parts each at the pose of their own bone."""
    parts = measured.carried(region)
    images = [project_region(measured.density, part, camera, poses[bone]) for bone, part in parts.items()]
    areal, seen = (np.stack(one) for one in zip(*images, strict=True))
    return areal.sum(axis=0), seen.max(axis=0)


def require_on_image(measured: MeasuredSite, half: Half, poses: Mapping[str, Matrix]) -> None:
    """Raise BadRegion when the radiograph cuts the region off."""
    parts, grid = measured.carried(measured.regions[measured.target].mask), measured.density.grid
    points = np.concatenate([transform_points(poses[bone], world_points(part, grid)) for bone, part in parts.items()])
    columns, rows = np.rint(half.geometry.canonical_pixels(points)).astype(int).T
    height, width = half.covered.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    shown = inside.copy()
    shown[inside] = half.covered[rows[inside], columns[inside]]
    if np.mean(shown) < LEAST_ON_IMAGE:
        part = "" if half.side == Side.NONE else f"{half.side} half of the "
        raise BadRegion(
            f"only {np.mean(shown):.0%} of the region is on the {part}radiograph",
            mend="a larger frame, or a radiograph that shows the whole region",
        )


@dataclass(frozen=True)
class Patient:
    """What a radiograph is paired with: the CT in HU, labels on its grid, and the line to density."""

    volume: Volume
    labels: LabelMap
    calibration: Calibration


@dataclass(frozen=True)
class MadePair:
    """A pair that can be used, with what it was made from; `found` has the registration of each bone of the site."""

    measured: MeasuredSite
    half: Half
    images: PairImages
    found: Mapping[str, BoneRegistration]
    further: Further = NOTHING_FURTHER


@dataclass(frozen=True)
class Refused:
    """A side that gave no pair: at which stage, and why."""

    side: Side
    stage: str
    error_class: str
    reason: str


@dataclass(frozen=True)
class RadiographPairs:
    """What one radiograph gave: its pairs, the sides refused, every bone's registration by its name, all measured."""

    made: list[MadePair]
    refused: list[Refused]
    found: Mapping[str, BoneRegistration]
    measured: Mapping[Side, MeasuredSite] = field(default_factory=dict)


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
    """The pairs of one radiograph: each side (or the spine) measured, all bones registered together, each projected.

    A side that cannot be measured, registered or projected is refused and the other goes on. Only poses that converged
    become targets. `registrar` is `register_bones`, or what has its signature.
    """
    made: list[MadePair] = []
    refused: list[Refused] = []
    site = site_of(options.region.region)
    measured = _each(sides, "measure", refused, lambda side: _measured(patient, side, options))
    if not measured:
        return RadiographPairs(made, refused, {})
    bones = [site.label(bone, side) for side in measured for bone in reversed(site.bones)]
    found = registrar(patient.volume, patient.labels, radiograph, start, bones=bones, options=options.registration)

    def one(side: Side) -> MadePair:
        by_bone = {bone: found[site.label(bone, side)] for bone in site.bones}
        half = half_radiograph(radiograph, side, options.frame, camera=start.camera)
        poses = {bone: result.camera_from_world for bone, result in by_bone.items()}
        here = (patient.volume, patient.labels, patient.calibration)
        further = further_of(options.structures, measured[side], *here)
        return MadePair(measured[side], half, pair_images(measured[side], half, poses, further), by_bone, further)

    usable = []
    for side in measured:
        of_side = {bone: found[site.label(bone, side)] for bone in site.bones}
        lost = {bone: result for bone, result in of_side.items() if not result.converged}
        if not lost:
            usable.append(side)
        else:
            reason = "; ".join(f"{bone}: {result.outcome.value}" for bone, result in lost.items())
            refused.append(Refused(side, "register", next(iter(lost.values())).outcome.name, reason))
    made += _each(usable, "project", refused, one).values()
    return RadiographPairs(made, refused, found, measured)


def _measured(patient: Patient, side: Side, options: PairingOptions) -> MeasuredSite:
    site = site_of(options.region.region)
    measured: MeasuredSite
    if site.paired:
        measured = measure_hip(patient.volume, patient.labels, side, patient.calibration, options=options.region)
    else:
        _require_vertebrae(patient.labels, site)
        measured = measure_spine(patient.volume, patient.labels, patient.calibration, target=options.region.region)
    if measured.metal_mm3 > 0 and not options.keep_metal:
        raise BadRegion(
            f"metal in the {site.called(side)}: {measured.metal_mm3:.0f} mm3 above {METAL_HU:.0f} HU",
            mend="--keep-metal keeps it",
        )
    return measured


def _require_vertebrae(labels: LabelMap, site: SkeletalSite) -> None:
    missing = [name for bone in site.bones if (name := site.label(bone, Side.NONE)) not in labels.names_present]
    if missing:
        raise LabelsMismatch(f"not in the label map: {', '.join(missing)}", mend="L1 to L4, as TotalSegmentator v2")


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
