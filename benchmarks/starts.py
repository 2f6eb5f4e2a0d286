"""One rigid body, one image, one start: ours, CMA-ES and the Adam loops from the same places to the same criterion.

The body is the torso CT's skeleton, at one random pose a radiograph. A start of size s lies s degrees about a random
axis, 2 s mm in plane and 4 s mm in depth from the truth. Success: both hip bones' surfaces end within 2 mm in plane,
mean. Time to success: until every pose that ours asks its projector for is within 2 mm, until each generation's best is
for CMA-ES, and for the loops until they are, if 15 steps on they still are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, cast

import numpy as np
from adam_loops import LOSSES, RATES, Loop, Patience, diffdrr_loop, follow, nanodrr_loop, own_loop
from numpy.typing import NDArray
from start_plan import TUNING, Case
from tasks import Task, along_world
from torso_trials import OPTIONS, Row, Torso, camera_of, random_pose

from hierbmd.drr.projector import Projector
from hierbmd.drr.scene import make_scene
from hierbmd.geometry import Camera, ProjectionGeometry, Side, View
from hierbmd.registration.body import Body, is_bone, make_body, surface_points
from hierbmd.registration.bone import Search, register_bone
from hierbmd.registration.evolution import register_bone_cma
from hierbmd.registration.level import make_levels
from hierbmd.registration.outcome import BoneRegistration
from hierbmd.registration.target import target_error
from hierbmd.rigid import Matrix, Vector, moved
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.radiograph import simulate_radiograph

SUCCESS_MM = 2.0
SAMPLES, DOCUMENTED_SAMPLES = 150, 500
"""A ray, for those who march: a step just below a voxel, and what both document, which sees no more of this CT."""

PATIENCE = Patience(SUCCESS_MM, hold=15, steps=80, most_s=240.0)
"""When a loop has arrived, and when it is given up."""

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

    def task(self, pose: Matrix, samples: int = SAMPLES) -> Task:
        """The whole CT in linear attenuation, for those who register all of it."""
        scene = make_scene(along_world(self.torso.volume), quantity="attenuation")
        return Task("torso CT", scene, camera_of(self.pixels), pose, self.threads, samples)

    @lru_cache(maxsize=32)  # noqa: B019 - an arena lives as long as the benchmark
    def shot(self, number: int, image: str) -> tuple[np.ndarray, Matrix]:
        """The pixels of a radiograph, displayed or linear, and its true pose."""
        pose = random_pose(self.torso, np.random.default_rng([23, number]))
        geometry = ProjectionGeometry(camera_of(self.pixels), pose, View.AP, Side.BOTH)
        options = RadiographSimulationOptions(display=image == "displayed")
        radiograph = simulate_radiograph(self.torso.volume, None, geometry, options=options, seed=number)
        return radiograph.pixels, pose


def start_of(truth: Matrix, centre_world_mm: np.ndarray, size: float, number: int) -> Matrix:
    """The start of a size; the same direction for every system."""
    rng = np.random.default_rng([29, number, int(10 * size)])
    axis = rng.normal(size=3)
    way = rng.uniform(0, 2 * np.pi)
    shift = [2 * size * np.cos(way), 2 * size * np.sin(way), 4 * size * rng.choice([-1.0, 1.0])]
    return moved(truth, np.r_[np.radians(size) * axis / np.linalg.norm(axis), shift], centre_world_mm)


def run_case(arena: Arena, case: Case) -> Row:
    """A start followed to its end."""
    pixels, truth = arena.shot(case.number, case.image)
    start = start_of(truth, arena.torso.centre_world_mm, case.size, case.number)
    row: Row = {name: getattr(case, name) for name in ("key", "system", "pixels", "size", "number", "image")}
    row["start_mm"] = arena.error_mm(start, truth)
    return row | _SYSTEMS[case.system](arena, case, pixels, truth, start)


@dataclass
class Recorder:
    """A projector that notes the CPU time at which each pose was asked for, from when it was made."""

    projector: Projector
    began: float = field(default_factory=time.process_time)
    asked: list[tuple[Matrix, float]] = field(default_factory=list)

    def image(self, camera: Camera, pose: Matrix) -> NDArray[np.float32]:
        """The projector's image."""
        self.asked.append((pose, time.process_time() - self.began))
        return self.projector.image(camera, pose)

    def image_and_jacobian(
        self, camera: Camera, pose: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projector's image and its derivative."""
        self.asked.append((pose, time.process_time() - self.began))
        return self.projector.image_and_jacobian(camera, pose, pivot_world_mm)

    def arrival_s(
        self, error_of: Callable[[Matrix], float], ended_s: float, among: Sequence[Matrix] | None = None
    ) -> float:
        """When it asked for the first pose from which on all, or all `among` these, are within 2 mm; else the end."""
        wanted = None if among is None else {pose.tobytes() for pose in among}
        arrived = ended_s
        for pose, seconds in reversed(self.asked):
            if wanted is not None and pose.tobytes() not in wanted:
                continue
            if error_of(pose) > SUCCESS_MM:
                break
            arrived = seconds
        return arrived


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
    recorder = Recorder(arena.skeleton.projector)
    body = replace(arena.skeleton, projector=cast("Projector", recorder))
    wall = time.perf_counter()
    levels = make_levels(
        pixels, camera_of(case.pixels), pixel_mm=options.level_pixel_mm, smoothing_px=options.smoothing_px
    )
    found = find(Search(body, levels, start, options))
    cpu, wall = time.process_time() - recorder.began, time.perf_counter() - wall

    def error_of(pose: Matrix) -> float:
        return arena.error_mm(pose, truth)

    error = error_of(found.camera_from_world)
    among = found.path if find is register_bone_cma else None
    return {
        "error_mm": error,
        "success_s": recorder.arrival_s(error_of, cpu, among) if error <= SUCCESS_MM else None,
        "cpu_s": cpu,
        "wall_s": wall,
        "steps": len(recorder.asked),
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


def step_cases() -> list[list[Any]]:
    """Every loop on both sizes of image, and the peers with the samples a ray that they document."""
    cases: list[list[Any]] = [[system, pixels, SAMPLES] for pixels in (128, 256) for system in LOOPS]
    return cases + [[system, 128, DOCUMENTED_SAMPLES] for system in LOOPS if not system.startswith("our")]


def time_steps(arena: Arena, system: str, samples: int) -> Row:
    """The CPU seconds of a loop's step, median of three after one that warms up."""
    size, number = TUNING["linear"][-1]
    pixels, truth = arena.shot(number, "linear")
    start = start_of(truth, arena.torso.centre_world_mm, size, number)
    loop = LOOPS[system](arena.task(truth, samples))
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
        "samples": samples,
        "step_s": float(np.median(seconds)),
        "version": loop.version,
    }
