"""`make bench`: the projector beside DiffDRR and nanodrr in one run: time, error against the exact integral, ratios.

Every system gets the same volume, camera, pose and, where it samples, the same number of samples a ray. Wall times are
medians; CPU times are of the whole process, which a busy machine disturbs less. Leaves projector.json in --out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.reference import ReferenceProjector
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
from hierbmd.io.atomic import write_json
from hierbmd.rigid import Matrix, invert_rigid

SAMPLES = 300
EVERY = 8
"""The exact integral is taken at every eighth pixel of every eighth row."""


@dataclass(frozen=True)
class Task:
    """What everybody projects."""

    scene: Scene
    camera: Camera
    pose: Matrix
    threads: int


@dataclass(frozen=True)
class System:
    """A projector: its image (H, W), and a call that computes image and pose gradient."""

    name: str
    version: str
    repeats: int
    image: Callable[[], np.ndarray]
    gradient: Callable[[], object]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--voxels", type=int, default=256)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    console = Console(width=132)
    task = make_task(options.voxels, options.pixels, options.threads)
    systems, absent = [ours(task)], []
    for make in (nanodrr, diffdrr):
        try:
            systems.append(make(task))
        except (ImportError, RuntimeError) as error:
            absent.append(f"{make.__name__} not compared: {error}")
    exact = exact_pixels(task)
    rows = [measure(system, exact) for system in systems]
    for row in rows:
        for key in ("forward", "gradient"):
            row[f"{key}_times_ours"] = row[f"{key}_cpu_s"] / rows[0][f"{key}_cpu_s"]
    console.print(table(rows, options))
    for line in absent:
        console.print(line)
    write_json(
        options.out / "projector.json",
        {
            "voxels": [options.voxels] * 3,
            "pixels": [options.pixels] * 2,
            "samples_a_ray": SAMPLES,
            "threads": options.threads,
            "machine": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            "numba": importlib.metadata.version("numba"),
            "systems": rows,
            "not_compared": absent,
        },
    )


def make_task(voxels: int, pixels: int, threads: int) -> Task:
    """A textured ellipsoid that fills most of a cube of 256 mm, seen under an oblique AP pose."""
    places = [(np.arange(voxels, dtype=np.float32) - (voxels - 1) / 2) / (voxels / 2)] * 3
    x, y, z = np.meshgrid(*places, indexing="ij", sparse=True)
    inside = (x / 0.9) ** 2 + (y / 0.75) ** 2 + (z / 0.95) ** 2 < 1
    texture = 1 + 0.3 * np.sin(20 * x) * np.cos(15 * y + 10 * z)
    values = np.where(inside, 0.02 * texture, 0).astype(np.float32)
    spacing_mm = 256.0 / voxels
    grid = Grid(values.shape, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
    pose = Placement(View.AP, grid.centre_world_mm, 700.0).camera_from_world(Motion(5, 7, 3, 3, 2, 1))
    camera = Camera(1020.0, (pixels, pixels), (384.0 / pixels, 384.0 / pixels))
    scene = Scene(values, grid, None, ("all",), Quantity.ATTENUATION, "1")
    return Task(scene, camera, pose, threads)


def exact_pixels(task: Task) -> np.ndarray:
    """The exact integral of the trilinear field at every EVERY-th pixel and row."""
    camera = task.camera
    sparse = Camera(
        camera.sdd_mm,
        (-(-camera.size_px[0] // EVERY), -(-camera.size_px[1] // EVERY)),
        (camera.pixel_mm[0] * EVERY, camera.pixel_mm[1] * EVERY),
        (camera.centre_px[0] / EVERY, camera.centre_px[1] / EVERY),
    )
    return ReferenceProjector(task.scene).image_float64(sparse, task.pose)[0]


def measure(system: System, exact: np.ndarray) -> dict[str, Any]:
    """Times and errors of a system."""
    image = system.image()
    error = image[::EVERY, ::EVERY] - exact
    row: dict[str, Any] = {"system": system.name, "version": system.version, "repeats": system.repeats}
    row["error_rms_relative"] = float(np.sqrt(np.mean(error**2)) / exact.max())
    row["error_max_relative"] = float(np.abs(error).max() / exact.max())
    row["correlation"] = float(np.corrcoef(image[::EVERY, ::EVERY].ravel(), exact.ravel())[0, 1])
    row["scale"] = float(np.sum(image[::EVERY, ::EVERY] * exact) / np.sum(exact**2))
    for key, call in (("forward", system.image), ("gradient", system.gradient)):
        call()
        wall, cpu = zip(*(timed(call) for _ in range(system.repeats)), strict=True)
        row[f"{key}_s"], row[f"{key}_cpu_s"] = statistics.median(wall), statistics.median(cpu)
    return row


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and process CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def ours(task: Task) -> System:
    """The CPU projector; its gradient is the whole per-pixel Jacobian."""
    projector = CpuProjector(task.scene, threads=task.threads)
    pivot = task.scene.grid.centre_world_mm
    return System(
        "hierbmd cpu (numba)",
        importlib.metadata.version("hierbmd"),
        15,
        lambda: projector.image(task.camera, task.pose)[0],
        lambda: projector.image_and_jacobian(task.camera, task.pose, pivot),
    )


def nanodrr(task: Task) -> System:
    """nanodrr's torch renderer; its gradient is the backward pass to the pose of a weighted sum of the pixels."""
    import torch
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

    torch.set_num_threads(task.threads)
    grid, camera = task.scene.grid, task.camera
    data = torch.from_numpy(np.ascontiguousarray(task.scene.values.transpose(2, 1, 0)))[None, None]
    to_world = torch.from_numpy(grid.world_from_index.copy())
    subject = Subject(
        data,
        torch.zeros_like(data),
        to_world.float(),
        to_world.inverse().float(),
        Subject._make_voxel_to_grid(data.shape),
        torch.from_numpy(grid.centre_world_mm).float(),
        convert_to_mu=False,
    )
    drr = DRR.from_carm_intrinsics(
        camera.sdd_mm, *camera.pixel_mm, 0.0, 0.0, camera.size_px[1], camera.size_px[0], dtype=torch.float32
    )
    return torch_system("nanodrr", task, lambda pose: drr(subject, pose[None], n_samples=SAMPLES)[0, 0])


def diffdrr(task: Task) -> System:
    """DiffDRR's trilinear renderer on our values; its gradient is the backward pass to the pose, as for nanodrr."""
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
    drr = DRR(subject, camera.sdd_mm, height, du, width, dv, renderer="trilinear")
    pixels = torch.from_numpy(camera.detector_points_mm().reshape(-1, 3)).float()

    def render(pose: Any) -> Any:
        source, targets = pose[:3, 3][None, None], (pixels @ pose[:3, :3].T + pose[:3, 3])[None]
        return drr.render(drr.density, source, targets, n_points=SAMPLES).reshape(height, width)

    return torch_system("diffdrr", task, render)


def torch_system(name: str, task: Task, render: Callable[[Any], Any]) -> System:
    """A system from a function of the camera's pose, world_from_camera (4, 4) float32."""
    import torch

    pose = torch.from_numpy(invert_rigid(task.pose)).float()
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=task.camera.size_px[::-1])).float()

    def image() -> np.ndarray:
        with torch.no_grad():
            return np.asarray(render(pose).numpy())

    def gradient() -> object:
        moving = pose.clone().requires_grad_()
        (render(moving) * weights).sum().backward()
        return moving.grad

    return System(f"{name} (torch, trilinear)", importlib.metadata.version(name), 3, image, gradient)


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    """The rows as a table."""
    title = f"{options.voxels}^3 voxels, {options.pixels}^2 pixels, {SAMPLES} samples a ray, {options.threads} threads"
    out = Table(title=title)
    for head in (
        "system",
        "version",
        "forward s (CPU s)",
        "with gradient s (CPU s)",
        "CPU / ours",
        "rms error",
        "scale",
    ):
        out.add_column(head)
    for row in rows:
        out.add_row(
            row["system"],
            row["version"],
            f"{row['forward_s']:.4f} ({row['forward_cpu_s']:.4f})",
            f"{row['gradient_s']:.4f} ({row['gradient_cpu_s']:.4f})",
            f"{row['forward_times_ours']:.1f} / {row['gradient_times_ours']:.1f}",
            f"{100 * row['error_rms_relative']:.3f} %",
            f"{row['scale']:.5f}",
        )
    return out


if __name__ == "__main__":
    main()
