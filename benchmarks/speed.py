"""Part speed: every projector against ours in pairs within one run; batches of poses; several structures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import systems
from agreement import available
from pairs import median_of, pair
from scenes import divided
from systems import System, timed
from tasks import Task, body, errors, exact_pixels, pose_of

from hierbmd.drr.cpu import CpuProjector
from hierbmd.geometry import Motion
from hierbmd.rigid import invert_rigid

Say = Callable[[str], None]

LARGE = ("ours", "nanodrr", "diffdrr", "rtk", "plastimatch")
"""Who projects the large volume; a call of the torch peers takes so long there that each is timed once."""

_TORCH = ("nanodrr", "diffdrr")


def speed(
    folder: Path, task: Task, budget_s: float, say: Say, *, names: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Forward and gradient of each projector on a task, in pairs with ours, and their errors on the exact pixels.

    With `names` only those are measured, and the torch peers once.
    """
    exact = exact_pixels(task)
    found, absent = available(task, folder, names)
    mine = found.pop("ours")
    assert mine.gradient is not None
    own = {"forward_s": median_of(mine.forward, budget_s=3), "gradient_s": median_of(mine.gradient, budget_s=3)}
    row = {"system": mine.name, "version": mine.version} | own
    rows = [row | {"errors": errors(mine.image(), exact, task.every)}]
    for name, system in found.items():
        say(f"  {system.name}")
        once = name == "diffdrr_siddon" or (names is not None and name in _TORCH)
        rows.append(_row(mine, system, {"budget_s": budget_s, "most": 1 if once else 15}))
        rows[-1]["errors"] = errors(system.image(), exact, task.every)
    return {"task": task.name, "samples_a_ray": task.samples, "systems": rows, "not_compared": absent}


def _row(mine: System, system: System, options: dict[str, Any]) -> dict[str, Any]:
    assert mine.gradient is not None
    row: dict[str, Any] = {"system": system.name, "version": system.version}
    row["forward"] = pair(mine.forward, system.forward, **options)
    if system.gradient is not None:
        row["gradient"] = pair(mine.gradient, system.gradient, **options)
    elif system.name.startswith("RTK"):
        # The fastest without a gradient is held against our image with the whole Jacobian, too.
        row["image_to_our_jacobian"] = pair(mine.gradient, system.forward, **options)
    return row


def batch(size: int, pixels: int, threads: int, count: int, budget_s: float) -> dict[str, Any]:
    """`count` poses at once through torch, ours and nanodrr's: forward, and forward with the gradient of every pose."""
    import torch

    from hierbmd.drr.autograd import project

    task = body((size, size, size), pixels, threads)
    generator = np.random.default_rng(1)
    motions = [Motion(*generator.uniform(-8, 8, 6)) for _ in range(count)]
    poses = torch.from_numpy(np.stack([pose_of(task.scene.grid, motion) for motion in motions]))
    projector = CpuProjector(task.scene, threads=threads)
    weights = torch.from_numpy(generator.normal(size=pixels * pixels)).float()

    def ours(gradient: bool) -> None:
        moving = poses.clone().requires_grad_(gradient)
        images = project(projector, task.camera, moving).reshape(count, -1)
        if gradient:
            (images * weights).sum().backward()

    render = systems.nanodrr_renderer(task)
    inverse = torch.from_numpy(np.stack([invert_rigid(pose) for pose in poses.numpy()])).float()
    blocks = list(systems.ray_blocks(pixels * pixels, task.samples * count))

    def theirs(gradient: bool) -> None:
        moving = inverse.clone().requires_grad_(gradient)
        for rays in blocks:
            with torch.set_grad_enabled(gradient):
                images = render(moving, rays)[:, 0]
            if gradient:
                (images * weights[rays]).sum().backward()

    row: dict[str, Any] = {"task": f"{count} poses of {task.name}"}
    for name, gradient in (("forward", False), ("gradient", True)):
        calls = [lambda call=call, gradient=gradient: timed(lambda: call(gradient)) for call in (ours, theirs)]
        row[name] = pair(*calls, budget_s=budget_s, most=1)
    return row


def structures(size: int, pixels: int, threads: int, counts: tuple[int, ...], budget_s: float) -> dict[str, Any]:
    """The same voxels as one, three or a hundred structures: ours against one of ours, nanodrr against ours."""
    import torch

    task = body((size, size, size), pixels, threads)
    pose = torch.from_numpy(invert_rigid(task.pose)).float()[None]
    alone = systems.ours(task)
    assert alone.gradient is not None
    rows = []
    for count in counts:
        scene = divided(task.scene, count)
        several = systems.ours(replace(task, scene=scene))
        assert several.gradient is not None
        row: dict[str, Any] = {"structures": count}
        row["forward"] = pair(alone.forward, several.forward, budget_s=3)
        row["gradient"] = pair(alone.gradient, several.gradient, budget_s=3)
        try:
            render = systems.nanodrr_renderer(task, labels=scene.channels)
        except (ImportError, RuntimeError):
            rows.append(row)
            continue
        blocks = list(systems.ray_blocks(pixels * pixels, task.samples))
        row["nanodrr_forward"] = pair(
            several.forward,
            lambda r=render, b=blocks: timed(lambda: _no_grad(r, pose, b)),
            budget_s=budget_s,
            least=1,
            most=3,
        )
        rows.append(row)
    return {"task": task.name, "rows": rows}


def _no_grad(render: Callable[..., Any], pose: Any, blocks: list[slice]) -> None:
    import torch

    with torch.no_grad():
        for rays in blocks:
            render(pose, rays)
