"""The source-detector distance refined with the bones' poses, when asked for, and how well the image determines it.

One view tells the distance from depth only by perspective: a bone magnifies by distance over depth, and what is nearer
the source magnifies more. So the two errors go together, and the estimate says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import Camera
from hierbmd.registration.body import Body
from hierbmd.registration.level import Level
from hierbmd.registration.similarity import Fit, Target, fit
from hierbmd.registration.uncertainty import score_covariance
from hierbmd.registration.window import make_target
from hierbmd.rigid import Matrix, Vector, moved

_BOUND_SHARE = 0.2
"""How far the distance may go from the given one, of it."""
_LEAST_SHARE = 0.05
"""A standard error above this share of the distance: not determined."""
_PASSES, _STEPS, _MARGIN_PX = 2, 60, 3.0
_TOLERANCE_MM = 0.05
_DAMPING_START, _DAMPING_MIN, _DAMPING_MAX = 1e-3, 1e-9, 1e8
_DEPTH = 5

Image = NDArray[np.float32]
Placed = tuple[tuple[Body, Matrix], ...]


@dataclass(frozen=True)
class SddEstimate:
    """A refined source-detector distance, mm, its standard error, and each bone's pose with it.

    `depth_correlation` is that of its error with each bone's depth, by bone. Where it is not `determined` (`why`),
    `sdd_mm` is the given distance and the poses are as they were.
    """

    given_mm: float
    sdd_mm: float
    standard_error_mm: float
    depth_correlation: dict[str, float]
    poses: dict[str, Matrix]
    why: str = ""

    @property
    def determined(self) -> bool:
        """Whether the image determines it."""
        return not self.why


@dataclass(frozen=True)
class _State:
    """One distance and one pose a bone, with how each fits its window."""

    sdd_mm: float
    poses: tuple[Matrix, ...]
    fits: tuple[Fit, ...]

    @property
    def cost(self) -> float:
        return sum(one.cost for one in self.fits)


def refine_sdd(level: Level, placed: Placed) -> SddEstimate:
    """Refine the distance together with the poses of bones that were found, on one level of the radiograph.

    Levenberg-Marquardt on all bones' residuals at once: six columns a bone and one that they share, the derivative by
    the detector's distance. The other bones are each one's background. The pixel's size and the principal point stay.
    """
    given = level.camera.sdd_mm
    found = {body.name: pose for body, pose in placed}
    nothing = SddEstimate(given, given, float("inf"), {}, found, "no bone was found at the given distance")
    if not placed:
        return nothing
    state = _State(given, tuple(found.values()), ())
    targets: list[Target] = []
    for _ in range(_PASSES):
        made = _targets(level, placed, state)
        begun = None if made is None else _evaluate(placed, made, state.sdd_mm, state.poses)
        if made is None or begun is None:
            return replace(nothing, why="a bone is not on the image")
        targets = made
        state, settled = _refined(placed, targets, begun, given)
        if not settled:
            return replace(nothing, why="the steps ran out before the distance settled")
    covariance = _covariance(targets, state)
    if covariance is None:
        return replace(nothing, why="the image does not determine it")
    return _estimated(replace(nothing, why=""), state, covariance)


def _estimated(given: SddEstimate, state: _State, covariance: Matrix) -> SddEstimate:
    """What a settled state and its covariance make of the given distance."""
    std = np.sqrt(np.diag(covariance))
    correlation = {}
    for number, name in enumerate(given.poses):
        depth = 6 * number + _DEPTH
        correlation[name] = float(covariance[-1, depth] / (std[-1] * std[depth]))
    known = replace(given, standard_error_mm=float(std[-1]), depth_correlation=correlation)
    if abs(state.sdd_mm - given.given_mm) >= 0.99 * _BOUND_SHARE * given.given_mm:
        return replace(known, why=f"it ran to {_BOUND_SHARE:.0%} from the given distance")
    if std[-1] > _LEAST_SHARE * given.given_mm:
        return replace(known, why=f"its standard error is above {_LEAST_SHARE:.0%} of it")
    return replace(known, sdd_mm=state.sdd_mm, poses=dict(zip(given.poses, state.poses, strict=True)))


def _targets(level: Level, placed: Placed, state: _State) -> list[Target] | None:
    """Each bone's window at its pose, the others behind it; None when one cannot be compared."""
    seen = replace(level, camera=replace(level.camera, sdd_mm=state.sdd_mm))
    now = tuple((body, pose) for (body, _), pose in zip(placed, state.poses, strict=True))
    targets = [
        make_target(seen, body, pose, margin_px=_MARGIN_PX, others=tuple(o for o in now if o[0] is not body))
        for body, pose in now
    ]
    whole = [target for target in targets if target is not None]
    return whole if len(whole) == len(targets) else None


def _evaluate(placed: Placed, targets: Sequence[Target], sdd_mm: float, poses: tuple[Matrix, ...]) -> _State | None:
    fits = []
    for (body, _), target, pose in zip(placed, targets, poses, strict=True):
        camera = replace(target.camera, sdd_mm=sdd_mm)
        try:
            fits.append(fit(target, *image_and_slopes(body, camera, pose)))
        except RaysMissVolume:
            return None
    return _State(sdd_mm, poses, tuple(fits))


def image_and_slopes(body: Body, camera: Camera, pose: Matrix) -> tuple[Image, Image]:
    """A bone's projection (H, W), and its derivative (H, W, 7) by the twist about its centroid, then by the distance.

    The last is per mm of source-detector distance: every pixel moves along the beam's axis, source and patient rest.
    Of that motion only what is across the pixel's ray changes the image; along the ray, where the derivative is zero
    but for the sampling's error, it is left out.
    """
    image, jacobian = body.projector.image_and_jacobian(camera, pose, body.pivot_world_mm)
    _, ends = body.projector.image_and_ends(camera, pose)
    rays = (camera.detector_points_mm() - camera.source_points_mm()) / camera.ray_lengths_mm()[..., None]
    across = np.array([0.0, 0.0, 1.0]) - rays[..., 2:] * rays
    by_distance = np.sum(ends[0, :, :, 1] * across, axis=-1, keepdims=True, dtype=np.float32)
    return image[0], np.concatenate([jacobian[0], by_distance], axis=-1)


def _refined(placed: Placed, targets: list[Target], state: _State, given_mm: float) -> tuple[_State, bool]:
    damping = _DAMPING_START
    bound = _BOUND_SHARE * given_mm
    for _ in range(_STEPS):
        normal, gradient = _normal(state.fits)
        step = -np.linalg.solve(normal + damping * np.diag(np.maximum(np.diag(normal), 1e-12)), gradient)
        sdd_mm = float(np.clip(state.sdd_mm + step[-1], given_mm - bound, given_mm + bound))
        poses = tuple(
            moved(pose, np.asarray(step[6 * n : 6 * n + 6], dtype=np.float64), body.pivot_world_mm)
            for n, ((body, _), pose) in enumerate(zip(placed, state.poses, strict=True))
        )
        small = bool(np.all(np.abs(step[-1:]) < _TOLERANCE_MM)) and damping < 1.0
        trial = _evaluate(placed, targets, sdd_mm, poses)
        if trial is not None and trial.cost < state.cost:
            state, damping = trial, max(damping / 5.0, _DAMPING_MIN)
        else:
            damping *= 8.0
        if small or damping > _DAMPING_MAX:
            return state, True
    return state, False


def _columns(number: int, count: int) -> NDArray[np.int64]:
    """Where a bone's seven columns stand among all: its six, and the last, which all share."""
    return np.r_[6 * number : 6 * number + 6, 6 * count]


def _normal(fits: Sequence[Fit], weights: Sequence[float] | None = None) -> tuple[Matrix, Vector]:
    size = 6 * len(fits) + 1
    normal, gradient = np.zeros((size, size)), np.zeros(size)
    for number, one in enumerate(fits):
        columns = _columns(number, len(fits))
        normal[np.ix_(columns, columns)] += (
            one.jacobian.T @ one.jacobian * (1.0 if weights is None else weights[number])
        )
        gradient[columns] += one.jacobian.T @ one.residual
    return normal, gradient


def _covariance(targets: Sequence[Target], state: _State) -> Matrix | None:
    """The sandwich of `uncertainty.pose_covariance` for all bones and the distance at once, (6 n + 1, 6 n + 1)."""
    normal, _ = _normal(state.fits, [target.psi_slope for target in targets])
    scale = np.sqrt(np.diag(normal))
    if not np.all(scale > 0):
        return None
    curvature = normal / np.outer(scale, scale)
    if np.linalg.eigvalsh(curvature)[0] < 1e-10:
        return None
    meat, blocks = np.zeros_like(normal), 0
    for number, (target, one) in enumerate(zip(targets, state.fits, strict=True)):
        columns = _columns(number, len(targets))
        part, count = score_covariance(target, one)
        meat[np.ix_(columns, columns)] += part
        blocks += count
    if blocks <= len(normal):
        return None
    inverse = np.linalg.inv(curvature) / np.outer(scale, scale)
    return np.asarray(inverse @ meat @ inverse * blocks / (blocks - len(normal)))
