"""The loop that nanodrr and DiffDRR document for registration: Adam on the cross-correlation of a rendered image.

Pose, loss and optimizer are nanodrr's own (`Registration`, `metrics`, its tutorial's two learning rates); the renderer
is nanodrr's, DiffDRR's, or ours under the same loop. DiffDRR's module of the same name needs torchvision.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from systems import diffdrr_renderer, nanodrr_subject
from tasks import Task

from hierbmd.rigid import Matrix, invert_rigid

RATES = ((5e-2, 1e1), (2e-2, 3e0), (1e-2, 1e0))
"""Learning rates of rotation (radians) and translation (mm): nanodrr's tutorial's, between, and xvr's default."""

LOSSES = ("ncc", "gradient ncc")
"""What is maximised: the tutorial's cross-correlation, or that of the images' Sobel gradients (sigma 1)."""


@dataclass(frozen=True)
class Loop:
    """A renderer under Adam: `render(pose)` takes world_from_camera (1, 4, 4) to the image (1, 1, H, W)."""

    name: str
    version: str
    task: Task
    render: Callable[[torch.Tensor], torch.Tensor]

    def poses(self, fixed: np.ndarray, start: Matrix, *, rates: tuple[float, float], loss: str) -> Iterator[Matrix]:
        """camera_from_world after each step, without end, from a start, towards an image (H, W)."""
        from nanodrr.metrics import GradientNormalizedCrossCorrelation2d, NormalizedCrossCorrelation2d

        similarity = NormalizedCrossCorrelation2d() if loss == "ncc" else GradientNormalizedCrossCorrelation2d()
        target = torch.from_numpy(np.ascontiguousarray(fixed, dtype=np.float32))[None, None]
        moving = _moving(self.task, start)
        groups = [{"params": [moving._rot], "lr": rates[0]}, {"params": [moving._xyz], "lr": rates[1]}]
        adam = torch.optim.Adam(groups, maximize=True)
        while True:
            adam.zero_grad()
            similarity(target, self.render(moving.pose)).sum().backward()
            adam.step()
            yield invert_rigid(moving.pose.detach()[0].double().numpy())


def _moving(task: Task, start: Matrix) -> Any:
    """nanodrr's own module: a pose as a perturbation, about the volume's centre, of the start."""
    from nanodrr.camera import make_k_inv
    from nanodrr.registration import Registration

    camera = task.camera
    (width, height), (du, dv) = camera.size_px, camera.pixel_mm
    return Registration(
        nanodrr_subject(task),
        torch.from_numpy(invert_rigid(start)).float()[None],
        make_k_inv(camera.sdd_mm, du, dv, 0.0, 0.0, height, width),
        torch.tensor([camera.sdd_mm]),
        height,
        width,
    )


def nanodrr_loop(task: Task) -> Loop:
    """nanodrr's renderer, `task.samples` along the part of a ray that is in the volume."""
    from nanodrr.camera import make_k_inv
    from nanodrr.drr import render

    torch.set_num_threads(task.threads)
    camera, subject = task.camera, nanodrr_subject(task)
    (width, height), (du, dv) = camera.size_px, camera.pixel_mm
    k_inv, sdd = make_k_inv(camera.sdd_mm, du, dv, 0.0, 0.0, height, width), torch.tensor([camera.sdd_mm])
    return Loop(
        "nanodrr, Adam",
        importlib.metadata.version("nanodrr"),
        task,
        lambda pose: render(subject, k_inv, pose, sdd, height, width, task.samples),
    )


def diffdrr_loop(task: Task) -> Loop:
    """DiffDRR's trilinear renderer, `task.samples` a ray between the volume's nearest and farthest corner."""
    width, height = task.camera.size_px
    render = diffdrr_renderer(task, "trilinear")
    return Loop(
        "DiffDRR, Adam",
        importlib.metadata.version("diffdrr"),
        task,
        lambda pose: render(pose[0], slice(None)).reshape(1, 1, height, width),
    )


def own_loop(task: Task) -> Loop:
    """Our projector under the same loop: what of the difference the projector makes, and what the optimizer."""
    from hierbmd.drr.autograd import project
    from hierbmd.drr.cpu import CpuProjector

    projector = CpuProjector(task.scene, threads=task.threads)
    return Loop(
        "our projector, Adam",
        importlib.metadata.version("hierbmd"),
        task,
        lambda pose: project(projector, task.camera, torch.linalg.inv(pose)),
    )


@dataclass(frozen=True)
class Descent:
    """One start followed: the in-plane error before and after each step, mm, and the CPU and wall seconds by then."""

    errors_mm: list[float]
    cpu_s: list[float]
    wall_s: list[float]

    def success_steps(self, limit_mm: float) -> int | None:
        """The steps after which the error stays within a limit; None where it does not end there."""
        outside = [number for number, error in enumerate(self.errors_mm) if error > limit_mm]
        first = outside[-1] + 1 if outside else 0
        return first if first < len(self.errors_mm) else None

    def success_s(self, limit_mm: float) -> float | None:
        """The CPU seconds of those steps."""
        steps = self.success_steps(limit_mm)
        return None if steps is None else self.cpu_s[steps]


@dataclass(frozen=True)
class Patience:
    """When a loop is left: within `limit_mm` for `hold` steps, or after `steps` or `most_s` CPU seconds."""

    limit_mm: float
    hold: int
    steps: int
    most_s: float

    def is_over(self, errors_mm: list[float], cpu_s: float) -> bool:
        """Whether to stop after these errors, the start's first."""
        last = errors_mm[-self.hold :]
        arrived = len(last) == self.hold and max(last) <= self.limit_mm
        return arrived or len(errors_mm) > self.steps or cpu_s > self.most_s


def follow(
    poses: Iterator[Matrix], start_error_mm: float, error_of: Callable[[Matrix], float], patience: Patience
) -> Descent:
    """Take steps until the patience is over."""
    errors, cpu, wall = [start_error_mm], [0.0], [0.0]
    cpu_began, wall_began = time.process_time(), time.perf_counter()
    for pose in poses:
        errors.append(error_of(pose))
        cpu.append(time.process_time() - cpu_began)
        wall.append(time.perf_counter() - wall_began)
        if patience.is_over(errors, cpu[-1]):
            break
    return Descent(errors, cpu, wall)
