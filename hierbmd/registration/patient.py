"""All bones of a CT on one radiograph: the skeleton first, then each bone on its own with the others accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import GeometryMissing
from hierbmd.geometry import ProjectionGeometry
from hierbmd.registration.body import Body, is_bone, make_body
from hierbmd.registration.bone import Others, Search, refine_bone, register_bone
from hierbmd.registration.evolution import register_bone_cma
from hierbmd.registration.intrinsics import SddEstimate, refine_sdd
from hierbmd.registration.level import Level, make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.rigid import Matrix, rigid_matrix, transform_points

DEFAULT_BONES = ("femur_left", "femur_right", "hip_left", "hip_right")
"""What the method registers (METHOD section 1), named as TotalSegmentator v2 does."""

_SWEEPS = (False, True)
"""How often the bones are refined against each other, and whether outliers are weighed down."""

_RESCUES = 2
"""How often bones that were not found are looked for again next to those that were."""

_JOINT_DEG, _JOINT_MM, _JOINT_DEPTH_MM = 8.0, 10.0, 15.0
"""How far a bone may have turned about its joint, and slipped in it, between the CT and the radiograph."""

Registrations = dict[str, BoneRegistration]


@dataclass(frozen=True)
class _Patient:
    """What all bones share: the bones asked for, the whole skeleton and its rest as rigid bodies, image and start."""

    bones: Mapping[str, Body]
    whole: Body
    rest: Body | None
    levels: tuple[Level, ...]
    start: Matrix
    options: RegistrationOptions


def register_bones(
    volume: Volume,
    labels: LabelMap,
    radiograph: Radiograph,
    start: ProjectionGeometry,
    *,
    bones: Sequence[str] = DEFAULT_BONES,
    options: RegistrationOptions | None = None,
) -> Registrations:
    """Each bone's pose on a radiograph, by name, in the order asked for; the order has no influence on the poses.

    `volume` is the CT in HU and `labels` lie on its grid; `start` gives the camera and the pose that every bone
    starts from. The skeleton is found first as one rigid body; from there each bone is found on its own, the others
    at the skeleton's pose being its background; then all are refined against each other's last estimates. Where the
    skeleton is not found each bone is looked for alone from the start. What was not found is looked for again from the
    pose of the nearest bone that was. LabelsMismatch when a bone is not in the map,
    GeometryMissing when the start's camera is not of the radiograph's size.
    """
    patient = _make_patient(volume, labels, radiograph, start, bones=bones, options=options or RegistrationOptions())
    # Windows are small: BLAS threads would wait for each other longer than they work.
    with threadpool_limits(1, user_api="blas"):
        return _registered(patient)


@dataclass(frozen=True)
class FreeRegistrations:
    """Registrations with a refined source-detector distance: where they start from with it, and the estimate itself."""

    found: Registrations
    start: ProjectionGeometry
    estimate: SddEstimate


def register_bones_free_sdd(
    volume: Volume,
    labels: LabelMap,
    radiograph: Radiograph,
    start: ProjectionGeometry,
    *,
    bones: Sequence[str] = DEFAULT_BONES,
    options: RegistrationOptions | None = None,
) -> FreeRegistrations:
    """As `register_bones`, with the source-detector distance refined on the bones that converged at the given one.

    Where the image determines it all bones are registered again with it, and the standard errors of their depths
    include its own; where not, the registrations at the given distance stand and the estimate says why.
    """
    options = options or RegistrationOptions()
    patient = _make_patient(volume, labels, radiograph, start, bones=bones, options=options)
    with threadpool_limits(1, user_api="blas"):
        found = _registered(patient)
        placed = tuple((patient.bones[n], one.camera_from_world) for n, one in found.items() if one.converged)
        estimate = refine_sdd(patient.levels[-1], placed)
    if not estimate.determined:
        return FreeRegistrations(found, start, estimate)
    ratio = estimate.sdd_mm / estimate.given_mm
    deeper = rigid_matrix(np.eye(3), np.array([0.0, 0.0, (ratio - 1.0) * _depth_mm(patient)]))
    camera = replace(start.camera, sdd_mm=estimate.sdd_mm)
    moved_start = replace(start, camera=camera, camera_from_world=deeper @ start.camera_from_world)
    again = register_bones(volume, labels, radiograph, moved_start, bones=bones, options=options)
    share = estimate.standard_error_mm / estimate.sdd_mm
    wider = {name: _with_depth_error(patient.bones[name], one, share) for name, one in again.items()}
    return FreeRegistrations(wider, moved_start, estimate)


def _depth_mm(patient: _Patient) -> float:
    return float(transform_points(patient.start, patient.whole.pivot_world_mm)[2])


def _with_depth_error(body: Body, result: BoneRegistration, share: float) -> BoneRegistration:
    """A registration whose depth is also uncertain by a share of itself."""
    depth_mm = float(transform_points(result.camera_from_world, body.pivot_world_mm)[2])
    wider = float(np.hypot(result.uncertainty.depth_mm, share * depth_mm))
    return replace(result, uncertainty=replace(result.uncertainty, depth_mm=wider))


def _registered(patient: _Patient) -> Registrations:
    if patient.options.search == "cma":
        return {name: register_bone_cma(search) for name, search in _alone(patient).items()}
    if not patient.options.neighbours:
        return _each_alone(patient)
    together = register_bone(Search(patient.whole, patient.levels[:2], patient.start, patient.options))
    if together.converged:
        found, context = _each_among_others(patient, together)
    else:
        found, context = _each_alone(patient), ()
    found = _swept(patient, found, context, frozenset(found))
    for _ in range(_RESCUES):
        rescued = _from_neighbours(patient, found, context)
        if not rescued:
            break
        found = _swept(patient, found | rescued, context, frozenset(rescued))
    return found


def _make_patient(
    volume: Volume,
    labels: LabelMap,
    radiograph: Radiograph,
    start: ProjectionGeometry,
    *,
    bones: Sequence[str],
    options: RegistrationOptions,
) -> _Patient:
    if start.camera.size_px != radiograph.size_px:
        raise GeometryMissing(
            f"the geometry is for an image of {start.camera.size_px} pixels, the radiograph has {radiograph.size_px}",
            mend="give the geometry of this radiograph",
        )
    names = tuple(dict.fromkeys(bones))
    skeleton = tuple(name for name in labels.names_present if is_bone(name) or name in names)
    rest = tuple(name for name in skeleton if name not in names)

    def body(name: str, structures: tuple[str, ...]) -> Body:
        return make_body(
            name, volume, labels, structures=structures, metal_hu=options.metal_hu, around_hu=options.around_hu
        )

    return _Patient(
        bones={name: body(name, (name,)) for name in names},
        whole=body("skeleton", skeleton),
        rest=body("other bones", rest) if rest else None,
        levels=make_levels(
            radiograph.pixels, start.camera, pixel_mm=options.level_pixel_mm, smoothing_px=options.smoothing_px
        ),
        start=start.camera_from_world,
        options=options,
    )


def _each_alone(patient: _Patient) -> Registrations:
    """Every bone from the given start, through all levels, as if it were the only one."""
    return {name: register_bone(search) for name, search in _alone(patient).items()}


def _alone(patient: _Patient) -> dict[str, Search]:
    return {name: Search(body, patient.levels, patient.start, patient.options) for name, body in patient.bones.items()}


def _each_among_others(patient: _Patient, together: BoneRegistration) -> tuple[Registrations, Others]:
    """Every bone from the skeleton's pose, at the middle level, and the bodies that stay there: the rest."""
    pose = together.camera_from_world
    middle = patient.levels[1:2] or patient.levels
    context = () if patient.rest is None else ((patient.rest, pose),)
    found = {}
    for name, body in patient.bones.items():
        others = tuple((other, pose) for key, other in patient.bones.items() if key != name)
        options = _near_its_joint(body, [other for other, _ in (*others, *context)], patient.options)
        alone = register_bone(Search(body, middle, pose, options, (*others, *context), patient.start))
        found[name] = replace(alone, path=(*together.path, *alone.path))
    return found, context


def _near_its_joint(body: Body, neighbours: Sequence[Body], options: RegistrationOptions) -> RegistrationOptions:
    """The options with start ranges no wider than a joint allows a bone whose neighbour's pose is known.

    Turning about the joint, the bone's point nearest to a neighbour, moves its centroid along: a long bone's the more.
    """
    gaps = [cdist(body.surface_world_mm, other.surface_world_mm).min(axis=1) for other in neighbours]
    joint = body.surface_world_mm[np.argmin(np.min(gaps, axis=0))] if gaps else body.pivot_world_mm
    turn_deg = min(options.start_rotation_deg, _JOINT_DEG)
    reach_mm = _JOINT_MM + np.linalg.norm(body.pivot_world_mm - joint) * np.sin(np.radians(turn_deg))
    return replace(
        options,
        start_rotation_deg=turn_deg,
        start_in_plane_mm=min(options.start_in_plane_mm, float(reach_mm)),
        start_depth_mm=min(options.start_depth_mm, _JOINT_DEPTH_MM),
    )


def _from_neighbours(patient: _Patient, found: Registrations, context: Others) -> Registrations:
    """The bones that were not found, where they are found or are more similar from the nearest found bone's pose."""
    placed = {name: result for name, result in found.items() if result.converged}
    others = tuple((patient.bones[name], result.camera_from_world) for name, result in placed.items())
    rescued = {}
    for name, result in found.items():
        if result.converged or not placed:
            continue
        body = patient.bones[name]
        nearest = min(placed, key=lambda other: _distance_mm(body, patient.bones[other]))
        options = _near_its_joint(body, [patient.bones[nearest]], patient.options)
        start = found[nearest].camera_from_world
        middle = patient.levels[1:2] or patient.levels
        again = register_bone(Search(body, middle, start, options, (*others, *context), patient.start))
        if again.converged or again.similarity > result.similarity:
            seconds, steps = result.seconds + again.seconds, result.steps + again.steps
            rescued[name] = replace(again, seconds=seconds, steps=steps, path=(*result.path, *again.path))
    return rescued


def _distance_mm(body: Body, other: Body) -> float:
    return float(cdist(body.surface_world_mm, other.surface_world_mm).min())


def _swept(patient: _Patient, found: Registrations, context: Others, names: frozenset[str]) -> Registrations:
    """The bones of these names refined at the finest level, sweep by sweep; the rest as they are."""
    for robust in _SWEEPS:
        found = found | _against_each_other(patient, found, context, names, robust=robust)
    return found


def _against_each_other(
    patient: _Patient, found: Registrations, context: Others, names: frozenset[str], *, robust: bool
) -> Registrations:
    """One sweep: every bone of these names sees the converged others where the sweep before left them."""
    placed = [(patient.bones[name], result.camera_from_world) for name, result in found.items() if result.converged]
    refined = {}
    for name, result in found.items():
        if name in names:
            others = tuple((body, pose) for body, pose in placed if body.name != name)
            search = Search(patient.bones[name], patient.levels, patient.start, patient.options, (*others, *context))
            refined[name] = refine_bone(search, result, robust=robust)
    return refined
