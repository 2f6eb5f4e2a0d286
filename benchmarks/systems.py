"""The projectors that run in this process: ours, nanodrr's and DiffDRR's, on one task, each with a call to be timed."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tasks import Task

from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.marching import interval_of_all
from hierbmd.rigid import invert_rigid

BLOCK_SAMPLES = 20_000_000
"""Samples that a torch peer keeps at a time, 4 GB with its tape; larger images are rendered in blocks of rays."""


def own_peak_mb() -> float:
    """The largest memory that this process has held so far, or since `forget_peak`, MB (Linux).

    Not getrusage's: a process that another starts has that one's peak in it.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def forget_peak() -> None:
    """Let `own_peak_mb` begin anew from what is held now (Linux): starting up takes more than it keeps."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@dataclass(frozen=True)
class System:
    """A projector on a task: `image` gives (H, W), `forward` and `gradient` do the work once and say how many
    seconds it took.

    `gradient` is None for one that has none; `peak_mb` is the largest memory so far of the process that projects.
    """

    name: str
    version: str
    image: Callable[[], np.ndarray]
    forward: Callable[[], float]
    gradient: Callable[[], float] | None = None
    peak_mb: Callable[[], float] = own_peak_mb


def timed(call: Callable[[], object]) -> float:
    """How many seconds a call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ours(task: Task) -> System:
    """The CPU projector; its gradient is the image and the whole per-pixel Jacobian."""
    projector = CpuProjector(task.scene, threads=task.threads)
    pivot = task.scene.grid.centre_world_mm
    return System(
        "hierbmd cpu (numba)",
        importlib.metadata.version("hierbmd"),
        lambda: projector.image(task.camera, task.pose)[0],
        lambda: timed(lambda: projector.image(task.camera, task.pose)),
        lambda: timed(lambda: projector.image_and_jacobian(task.camera, task.pose, pivot)),
    )


def nanodrr(task: Task) -> System:
    """nanodrr's torch renderer; its gradient is the backward pass to the pose of a weighted sum of the pixels."""
    render = nanodrr_renderer(task)
    return _torch_system(
        "nanodrr (torch, trilinear)", "nanodrr", task, lambda pose, rays: render(pose[None], rays)[0, 0]
    )


def nanodrr_subject(task: Task, *, labels: np.ndarray | None = None) -> Any:
    """nanodrr's Subject of our attenuation values, as they are, turning about the volume's centre."""
    import torch
    from nanodrr.data import Subject

    grid = task.scene.grid
    data = torch.from_numpy(np.ascontiguousarray(task.scene.values.transpose(2, 1, 0)))[None, None]
    marks = torch.zeros_like(data)
    if labels is not None:
        marks = torch.from_numpy(np.ascontiguousarray(labels.transpose(2, 1, 0))).float()[None, None]
    to_world = torch.from_numpy(grid.world_from_index.copy())
    return Subject(
        data,
        marks,
        to_world.float(),
        to_world.inverse().float(),
        Subject._make_voxel_to_grid(data.shape),
        torch.from_numpy(grid.centre_world_mm).float(),
        convert_to_mu=False,
    )


def nanodrr_renderer(task: Task, *, labels: np.ndarray | None = None) -> Callable[[Any, slice], Any]:
    """A function of poses world_from_camera (B, 4, 4) and some rays of the image: (B, C, rays), C its label classes."""
    import torch
    from nanodrr.drr import render

    torch.set_num_threads(task.threads)
    camera, subject = task.camera, nanodrr_subject(task, labels=labels)
    targets = torch.from_numpy(camera.detector_points_mm().reshape(-1, 3)).float()
    sdd = torch.tensor([camera.sdd_mm])

    def some(poses: Any, rays: slice) -> Any:
        tgt = targets[rays][None].expand(len(poses), -1, -1)
        src = torch.zeros(len(poses), 1, 3)
        image = render(subject, torch.eye(3)[None], poses, sdd, tgt.shape[1], 1, task.samples, src=src, tgt=tgt)
        return image[..., 0]

    return some


def diffdrr(task: Task) -> System:
    """DiffDRR's trilinear renderer on our values; its gradient is as nanodrr's."""
    return _diffdrr(task, "trilinear")


def diffdrr_siddon(task: Task) -> System:
    """DiffDRR's Siddon renderer: voxels of one value each, another field than the trilinear one."""
    return _diffdrr(task, "siddon")


def _diffdrr(task: Task, renderer: str) -> System:
    samples = sum(task.scene.grid.shape) + 3 if renderer == "siddon" else None
    return _torch_system(f"DiffDRR (torch, {renderer})", "diffdrr", task, diffdrr_renderer(task, renderer), samples)


def diffdrr_renderer(task: Task, renderer: str) -> Callable[[Any, slice], Any]:
    """A function of the camera's pose world_from_camera (4, 4) and some rays of the image: (rays,).

    The trilinear renderer marches between the nearest and the farthest corner of the volume at the task's pose.
    """
    import torch
    from diffdrr.drr import DRR

    torch.set_num_threads(task.threads)
    camera, grid = task.camera, task.scene.grid
    subject = SimpleNamespace(
        volume=SimpleNamespace(affine=grid.world_from_index.copy()),
        density=SimpleNamespace(data=torch.from_numpy(task.scene.values)[None]),
        mask=None,
        reorient=torch.eye(4),
    )
    (width, height), (du, dv) = camera.size_px, camera.pixel_mm
    drr = DRR(subject, camera.sdd_mm, height, du, width, dv, renderer=renderer)
    pixels = torch.from_numpy(camera.detector_points_mm().reshape(-1, 3)).float()
    options: dict[str, Any] = {}
    if renderer == "trilinear":
        first, last = (torch.tensor(t) for t in interval_of_all(grid, camera, task.pose))
        options = {"n_points": task.samples, "alphamin": first, "alphamax": last}

    def render(pose: Any, rays: slice) -> Any:
        source, targets = pose[:3, 3][None, None], (pixels[rays] @ pose[:3, :3].T + pose[:3, 3])[None]
        return drr.render(drr.density, source, targets, **options)[0, 0]

    return render


def _torch_system(
    name: str, package: str, task: Task, render: Callable[[Any, slice], Any], samples: int | None = None
) -> System:
    """A system from a function of the camera's pose, world_from_camera (4, 4) float32, and a block of rays."""
    import torch

    pose = torch.from_numpy(invert_rigid(task.pose)).float()
    width, height = task.camera.size_px
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=width * height)).float()
    blocks = list(ray_blocks(width * height, samples or task.samples))

    def image() -> np.ndarray:
        with torch.no_grad():
            return np.asarray(torch.cat([render(pose, rays) for rays in blocks]).numpy()).reshape(height, width)

    def gradient() -> object:
        moving = pose.clone().requires_grad_()
        for rays in blocks:
            (render(moving, rays) * weights[rays]).sum().backward()
        return moving.grad

    return System(name, importlib.metadata.version(package), image, lambda: timed(image), lambda: timed(gradient))


def ray_blocks(rays: int, samples: int) -> Iterator[slice]:
    """Slices of rays of at most BLOCK_SAMPLES samples each."""
    step = max(BLOCK_SAMPLES // samples, 1)
    for first in range(0, rays, step):
        yield slice(first, first + step)
