"""Our kernel and nanodrr's on this machine's GPU, in turn, at equal work; refuses on a machine without one.

`python benchmarks/gpu.py --out FILE.json` prints a table and leaves its numbers, with the GPU and all versions named.
Both project the body of `tasks` from tensors on the GPU to tensors on the GPU, as many samples a ray for nanodrr as
there are planes for us. With gradient: ours is the image with the whole Jacobian, and the image with the moments that
a backward pass needs; nanodrr's is the image and a backward pass to the pose. Of structures, nanodrr takes each
neighbour's own label (`soft_labels`), which is what we compute.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from scenes import divided
from tasks import Task, body, pose_of

from hierbmd.geometry import Motion
from hierbmd.io.atomic import write_json
from hierbmd.rigid import invert_rigid

Call = Callable[[], Any]

_REPEATS = 50
_CASES = ((256, 256, 1, 1), (256, 256, 1, 10), (256, 256, 8, 1), (512, 512, 1, 1))
"""Voxels and pixels along an axis, poses, structures."""


def poses_of(task: Task, count: int) -> torch.Tensor:
    """Poses (B, 4, 4) about the task's, float64 on the GPU."""
    motions = [Motion(5 + n, 7 - n, 3, 3, 2, 1) for n in range(count)]
    return torch.from_numpy(np.stack([pose_of(task.scene.grid, motion) for motion in motions])).cuda()


def our_calls(task: Task, poses: torch.Tensor) -> dict[str, Call]:
    """What is timed of ours."""
    from hierbmd.drr.cuda import CudaProjector

    projector, camera = CudaProjector(task.scene), task.camera
    pivot = task.scene.grid.centre_world_mm
    weights = torch.randn_like(projector.images(camera, poses))

    def image_and_moments() -> object:
        return projector.images(camera, poses, trusted=True), projector.moments(camera, poses, weights, trusted=True)

    return {
        "image": lambda: projector.images(camera, poses, trusted=True),
        "image and Jacobian": lambda: projector.images_and_jacobians(camera, poses, pivot, trusted=True),
        "image and moments": image_and_moments,
    }


def nanodrr_calls(task: Task, poses: torch.Tensor) -> dict[str, Call]:
    """What is timed of nanodrr, its rays made once."""
    from nanodrr.data import Subject
    from nanodrr.drr import render

    grid, camera = task.scene.grid, task.camera
    values = torch.from_numpy(np.ascontiguousarray(task.scene.values.transpose(2, 1, 0)))[None, None].cuda()
    labels = torch.zeros_like(values)
    if task.scene.channels is not None:
        labels = torch.from_numpy(np.ascontiguousarray(task.scene.channels.transpose(2, 1, 0))).cuda()[None, None]
    to_world = torch.from_numpy(grid.world_from_index.copy())
    matrices = (to_world.float(), to_world.inverse().float(), Subject._make_voxel_to_grid(values.shape))
    centre = torch.from_numpy(grid.centre_world_mm).float()
    subject = Subject(values, labels, *matrices, centre, convert_to_mu=False).cuda()
    world_from_camera = torch.stack([torch.from_numpy(invert_rigid(pose)) for pose in poses.cpu().numpy()])
    moving = world_from_camera.float().cuda().requires_grad_()
    targets = torch.from_numpy(camera.detector_points_mm().reshape(1, -1, 3)).float().cuda().expand(len(poses), -1, -1)
    source, sdd = torch.zeros(len(poses), 1, 3, device="cuda"), torch.tensor([camera.sdd_mm], device="cuda")
    width, height = camera.size_px

    def image(pose: torch.Tensor) -> torch.Tensor:
        fixed = (torch.eye(3, device="cuda")[None], pose, sdd, height, width, task.samples)
        ends = {"src": source, "tgt": targets}
        rendered: torch.Tensor = render(subject, *fixed, soft_labels=True, backend="triton", **ends)
        return rendered

    weights = torch.randn_like(image(moving.detach()))

    def gradient() -> torch.Tensor:
        (grad,) = torch.autograd.grad((image(moving) * weights).sum(), moving)
        return grad

    return {"image": lambda: image(moving.detach()), "image and gradient": gradient}


def compare(ours: Call, theirs: Call) -> dict[str, float]:
    """Median milliseconds of both, called in turn, and of theirs / ours."""
    for call in (ours, theirs) * 3:
        call()
    pairs = [(_milliseconds(ours), _milliseconds(theirs)) for _ in range(_REPEATS)]
    return {
        "ours_ms": statistics.median(a for a, _ in pairs),
        "theirs_ms": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratio_low": min(b / a for a, b in pairs),
        "ratio_high": max(b / a for a, b in pairs),
    }


def _milliseconds(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def measure(voxels: int, pixels: int, count: int, structures: int) -> list[dict[str, Any]]:
    """The rows of one case."""
    whole = body((voxels,) * 3, pixels, threads=1)
    scene = whole.scene if structures == 1 else divided(whole.scene, structures)
    task = Task(whole.name, scene, whole.camera, whole.pose, 1, samples=voxels)
    poses = poses_of(task, count)
    ours, theirs = our_calls(task, poses), nanodrr_calls(task, poses)
    image = ours["image"]()[0].sum(dim=0)
    beside = theirs["image"]()[0].sum(dim=0)
    agreement = float(torch.linalg.norm(image - beside) / torch.linalg.norm(image))
    case = {"task": task.name, "poses": count, "structures": structures, "difference": agreement}
    pairs = {
        "image": ("image", "image"),
        "image and Jacobian": ("image and Jacobian", "image and gradient"),
        "image and moments": ("image and moments", "image and gradient"),
    }
    return [{**case, "what": what, **compare(ours[a], theirs[b])} for what, (a, b) in pairs.items()]


def main() -> int:
    """Measure and print; 1 where there is no GPU or no nanodrr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench/gpu.json"), help="where the numbers go")
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        print(f"gpu: no CUDA device, torch {torch.__version__} sees none: nothing is measured", file=sys.stderr)
        return 1
    try:
        import nanodrr  # noqa: F401
    except ImportError as error:
        print(f"gpu: {error}: pip install --no-deps -r requirements-bench.txt", file=sys.stderr)
        return 1
    versions = {"triton": importlib.metadata.version("triton"), "cuda": torch.version.cuda}
    about = {**machine(1), "gpu": torch.cuda.get_device_name(), **versions}
    print(about["gpu"], about["versions"], versions, about["commit"])
    rows = []
    for case in _CASES:
        for row in measure(*case):
            rows.append(row)
            times = f"{row['ours_ms']:.3f} ms, nanodrr {row['theirs_ms']:.3f} ms"
            ratio = f"{row['ratio']:.1f} times ({row['ratio_low']:.1f} to {row['ratio_high']:.1f})"
            print(row["task"], f"{row['poses']} poses", f"{row['structures']} structures", row["what"], times, ratio)
    write_json(out, {"machine": about, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
