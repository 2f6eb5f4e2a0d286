"""Levenberg-Marquardt on a pose: second-order steps, a box around the start, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hierbmd.registration.similarity import Fit
from hierbmd.rigid import Matrix, Vector, moved, transform_points

_DAMPING_START = 1e-2
_DAMPING_MIN = 1e-7
_DAMPING_MAX = 1e6
_RELATIVE_DECREASE = 1e-5


@dataclass(frozen=True)
class Box:
    """The poses that are allowed: motions from `start` about `pivot_world_mm` within `half` (6,) radians and mm."""

    start: Matrix
    pivot_world_mm: Vector
    half: Vector

    def coordinates(self, pose: Matrix) -> Vector:
        """The motion (6,) from the start to a pose: rotation vector in radians and translation of the pivot in mm."""
        from scipy.spatial.transform import Rotation

        turn = Rotation.from_matrix(pose[:3, :3] @ self.start[:3, :3].T).as_rotvec()
        pivot = self.pivot_world_mm
        return np.concatenate([turn, transform_points(pose, pivot) - transform_points(self.start, pivot)])

    def pose(self, coordinates: Vector) -> Matrix:
        """The pose that lies this motion (6,) from the start."""
        return moved(self.start, coordinates, self.pivot_world_mm)

    def clipped(self, pose: Matrix) -> Matrix:
        """The nearest pose inside, axis by axis."""
        return self.pose(np.clip(self.coordinates(pose), -self.half, self.half))

    def at_edge(self, pose: Matrix) -> bool:
        """Whether a pose lies on the box's edge, to within one percent of it, or outside."""
        return bool(np.any(np.abs(self.coordinates(pose)) >= 0.99 * self.half))


@dataclass(frozen=True)
class Refined:
    """Where Levenberg-Marquardt ended: the pose, its fit, the projections spent, whether the last step was small.

    `path` holds the poses that it went through, the first where it began and the last `pose`.
    """

    pose: Matrix
    fit: Fit
    steps: int
    settled: bool
    path: tuple[Matrix, ...] = ()


def refine(
    evaluate: Callable[[Matrix], Fit | None], pose: Matrix, *, box: Box, step_tolerance: Vector, max_steps: int
) -> Refined | None:
    """Minimise the cost of `evaluate` from a pose; None when the start itself cannot be evaluated.

    `evaluate` gives None for a pose that cannot be projected, and the step is then taken back. It is settled when a
    step is below `step_tolerance` (6,), radians and mm, or lowers the cost by less than 1e-5 of itself. Damping
    follows Marquardt (J SIAM 1963;11:431): each axis by its own curvature, so that the weak depth axis keeps its
    units.
    """
    best = evaluate(pose)
    if best is None:
        return None
    damping, steps, path = _DAMPING_START, 1, [pose]
    while steps < max_steps:
        step = _step(best, damping)
        trial_pose = box.clipped(moved(pose, step, box.pivot_world_mm))
        change = box.coordinates(trial_pose) - box.coordinates(pose)
        if np.all(np.abs(change) < step_tolerance):
            return Refined(pose, best, steps, True, tuple(path))
        trial, steps = evaluate(trial_pose), steps + 1
        if trial is not None and trial.cost < best.cost:
            small = best.cost - trial.cost < _RELATIVE_DECREASE * best.cost
            pose, best, damping = trial_pose, trial, max(damping / 5.0, _DAMPING_MIN)
            path.append(pose)
            if small:
                return Refined(pose, best, steps, True, tuple(path))
        else:
            damping *= 8.0
        if damping > _DAMPING_MAX:
            return Refined(pose, best, steps, True, tuple(path))
    return Refined(pose, best, steps, False, tuple(path))


def _step(best: Fit, damping: float) -> Vector:
    normal = best.jacobian.T @ best.jacobian
    diagonal = np.diag(normal)
    floor = np.maximum(diagonal, 1e-9 * max(float(diagonal.max()), 1e-30))
    damped = normal + damping * np.diag(floor)
    return np.asarray(-np.linalg.solve(damped, best.jacobian.T @ best.residual))
