"""One bone on one radiograph: from several starts, coarse to fine, to a pose with its outcome and uncertainty."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from hierbmd.errors import RaysMissVolume
from hierbmd.registration.body import Body
from hierbmd.registration.judge import Evidence, disputed, judge
from hierbmd.registration.level import Level
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import BoneRegistration, Outcome, StartResult
from hierbmd.registration.rays import mean_pixel_mm, pixel_at_depth_mm
from hierbmd.registration.refine import Box, Refined, refine
from hierbmd.registration.similarity import Fit, Target, fit
from hierbmd.registration.starts import slide_in_plane, spread_starts
from hierbmd.registration.target import target_error
from hierbmd.registration.uncertainty import pose_covariance, uncertainty
from hierbmd.registration.window import make_target, reweighted
from hierbmd.rigid import Matrix, transform_points

Others = tuple[tuple[Body, Matrix], ...]

_MARGIN_PX = 3.0
_STEP_PX, _COARSE_STEP_PX = 0.02, 0.1
_WORTH_SHARE = 0.75
"""A second pose goes on to the finer levels when its coarse similarity is at least this share of the best's."""
_SECOND_LOOKS = 2


@dataclass(frozen=True)
class Search:
    """What stays the same while one bone is looked for.

    The bone, the radiograph's levels (coarse to fine), the pose `start` to look around, the other bones with their
    poses (the background), and `origin`, the pose that bounds are counted from: the start itself unless it is given.
    """

    body: Body
    levels: tuple[Level, ...]
    start: Matrix
    options: RegistrationOptions
    others: Others = ()
    origin: Matrix | None = None

    @property
    def box(self) -> Box:
        """The poses that are allowed around the origin."""
        options = self.options
        turn, across = np.radians(options.bound_rotation_deg), options.bound_in_plane_mm
        half = np.array([turn, turn, turn, across, across, options.bound_depth_mm])
        return Box(self.start if self.origin is None else self.origin, self.body.pivot_world_mm, half)


@dataclass(frozen=True)
class Settled:
    """Where a pose settled on one level, and the window that it was compared in."""

    target: Target
    refined: Refined


def register_bone(search: Search) -> BoneRegistration:
    """Find a bone near its start pose on the levels of a radiograph, coarse to fine; a failure is an outcome.

    At the coarsest level every start is slid in plane and refined in one common window, so that their costs compare;
    the best, and the best that disagrees with it, go on to the finer levels, and the better one there is the pose.
    """
    began = time.perf_counter()
    ranked = _from_starts(search)
    finals = []
    for refined in _worth_refining([end.refined for end in ranked], search):
        finer = _through_levels(search, refined)
        if finer is not None:
            finals.append(finer)
    finals.sort(key=lambda settled: -settled.refined.fit.similarity)
    return concluded(search, finals, ranked, seconds=time.perf_counter() - began)


def refine_bone(search: Search, found: BoneRegistration, *, robust: bool) -> BoneRegistration:
    """Refine a pose that was found, at the finest level alone, with the others of `search` as background.

    `robust` weighs down the edges that no bone explains; it is for a pose that is nearly right. What was ambiguous when
    it was found still is, and starts that disagreed still do.
    """
    began = time.perf_counter()
    if found.outcome is Outcome.OFF_IMAGE:
        return found
    settled = _at_level(search, search.levels[-1], found.camera_from_world, passes=(robust,))
    finals = [] if settled is None else [settled]
    again = concluded(search, finals, [], seconds=found.seconds + time.perf_counter() - began)
    starts = tuple(
        replace(start, agrees=agree(start.camera_from_world, again.camera_from_world, search)) for start in found.starts
    )
    outcome = again.outcome
    if again.converged and found.outcome in (Outcome.AMBIGUOUS, Outcome.DISAGREEING_STARTS):
        outcome = found.outcome
    elif again.converged and disputed(starts):
        outcome = Outcome.DISAGREEING_STARTS
    before = found.uncertainty
    spread = replace(again.uncertainty, starts_in_plane_mm=before.starts_in_plane_mm, starts=before.starts)
    steps, path = found.steps + again.steps, (*found.path, *again.path)
    return replace(again, outcome=outcome, starts=starts, uncertainty=spread, steps=steps, path=path)


@dataclass(frozen=True)
class End:
    """Where a start settled at the coarsest level; a second look from the same start is no start of its own."""

    start: Matrix
    refined: Refined
    second_look: bool


def _from_starts(search: Search) -> list[End]:
    """Every start with where it settled at the coarsest level, the best first.

    The given start is also followed from the next best places in plane: a neighbouring vertebra is such a place.
    """
    body, level, options = search.body, search.levels[0], search.options
    reach_px = options.start_in_plane_mm / mean_pixel_mm(level.camera, _depth_mm(search))
    target = make_target(level, body, search.start, margin_px=reach_px, others=search.others)
    if target is None:
        return []
    ends = []
    for number, start in enumerate(spread_starts(search.start, body.pivot_world_mm, options)):
        slid = slide_in_plane(
            level,
            body,
            start,
            range_mm=options.start_in_plane_mm,
            others=search.others,
            peaks=1 if number else 1 + _SECOND_LOOKS,
        )
        for look, place in enumerate(slid):
            refined = _refined(search, target, search.box.clipped(place), step_px=_COARSE_STEP_PX)
            if refined is not None:
                ends.append(End(start, refined, look > 0))
    return sorted(ends, key=lambda end: -end.refined.fit.similarity)


def _through_levels(search: Search, coarse: Refined) -> Settled | None:
    settled, steps, path = None, coarse.steps, coarse.path
    pose = coarse.pose
    for level in search.levels:
        settled = _at_level(search, level, pose)
        if settled is None:
            return None
        pose, steps, path = settled.refined.pose, steps + settled.refined.steps, (*path, *settled.refined.path)
    return None if settled is None else replace(settled, refined=replace(settled.refined, steps=steps, path=path))


def _at_level(
    search: Search, level: Level, pose: Matrix, *, passes: tuple[bool, ...] = (False, True)
) -> Settled | None:
    """Refine a pose on a level, pass by pass, each in a window of its own; in a True one outliers are weighed down."""
    steps, settled = 0, None
    path: tuple[Matrix, ...] = ()
    for robust in passes:
        target = make_target(level, search.body, pose, margin_px=_MARGIN_PX, others=search.others)
        if target is None:
            return settled
        if robust:
            seen = evaluate(search, target, pose)
            target = target if seen is None else reweighted(target, seen.residual)
        refined = _refined(search, target, pose)
        if refined is None:
            return settled
        pose, steps, path = refined.pose, steps + refined.steps, (*path, *refined.path)
        settled = Settled(target, replace(refined, steps=steps, path=path))
    return settled


def _refined(search: Search, target: Target, pose: Matrix, *, step_px: float = _STEP_PX) -> Refined | None:
    across_mm = step_px * pixel_at_depth_mm(target.camera, _depth_mm(search))
    turn = across_mm.min() / search.body.radius_mm
    tolerance = np.array([turn, turn, turn, *across_mm, 10.0 * across_mm.max()])
    return refine(
        lambda trial: evaluate(search, target, trial),
        pose,
        box=search.box,
        step_tolerance=tolerance,
        max_steps=search.options.max_steps,
    )


def evaluate(search: Search, target: Target, pose: Matrix) -> Fit | None:
    """How the bone at a pose fits a window of the radiograph; None where no ray meets it."""
    try:
        image, jacobian = search.body.projector.image_and_jacobian(target.camera, pose, search.body.pivot_world_mm)
    except RaysMissVolume:
        return None
    return fit(target, image[0], jacobian[0])


def _depth_mm(search: Search) -> float:
    return float(transform_points(search.start, search.body.pivot_world_mm)[2])


def _worth_refining(ends: list[Refined], search: Search) -> list[Refined]:
    """The best end, and the best that disagrees with it unless it is far less similar."""
    if not ends:
        return []
    best = ends[0]
    rivals = [end for end in ends[1:] if not agree(end.pose, best.pose, search)]
    return [best, *(end for end in rivals[:1] if end.fit.similarity >= _WORTH_SHARE * best.fit.similarity)]


def agree(pose: Matrix, other: Matrix, search: Search) -> bool:
    """Whether two poses put the bone's surface as close in plane, mean, as the coarsest level can tell.

    That is `agreement_mm` and half a pixel of that level, brought to the bone's depth.
    """
    camera = search.levels[0].camera
    pixel_mm = mean_pixel_mm(camera, _depth_mm(search))
    error = target_error(pose, other, search.body.surface_world_mm, beam=camera.beam)
    return error.in_plane_mm <= search.options.agreement_mm + 0.5 * pixel_mm


def concluded(search: Search, finals: list[Settled], ranked: list[End], *, seconds: float) -> BoneRegistration:
    """The registration that a search came to: its best end, how sure it is, and the outcome that this amounts to."""
    best = finals[0] if finals else None
    pose = search.start if best is None else best.refined.pose
    starts = tuple(
        StartResult(end.start, end.refined.pose, end.refined.fit.similarity, agree(end.refined.pose, pose, search))
        for end in ranked
        if not end.second_look
    )
    covariance = None if best is None else pose_covariance(best.target, best.refined.fit)
    agreeing = [start.camera_from_world for start in starts if start.agrees]
    errors = uncertainty(covariance, pose, search.body, agreeing, beam=search.levels[-1].camera.beam)
    rivals = [end.refined.fit.similarity for end in finals[1:] if not agree(end.refined.pose, pose, search)]
    evidence = Evidence(
        body=search.body,
        levels=search.levels,
        pose=pose,
        refined=None if best is None else best.refined,
        at_edge=search.box.at_edge(pose),
        uncertainty=errors,
        rival_similarity=max(rivals, default=0.0),
        starts=starts,
    )
    return BoneRegistration(
        name=search.body.name,
        camera_from_world=pose,
        outcome=judge(evidence, search.options),
        similarity=0.0 if best is None else best.refined.fit.similarity,
        uncertainty=errors,
        starts=starts,
        seconds=seconds,
        metal_voxels=search.body.metal_voxels,
        steps=0 if best is None else best.refined.steps,
        path=() if best is None else best.refined.path,
    )
