"""Part agreement: every projector on a real CT beside the exact integral of the trilinear field, and beside ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import systems
from outside import NotHere, plastimatch, rtk, rtk_python
from systems import System
from tasks import Task, errors, exact_pixels, real_ct

NCC, SCALE = 0.9999, 0.005
"""What a projector of the same field must reach: correlation, and how far its scale may be from one."""

OTHER_FIELD = ("siddon", "exact")
"""Voxels of one value each are another field than the trilinear one; they are listed, not held to the limits."""


def makers(folder: Path) -> dict[str, Callable[[Task], System]]:
    """How each projector is made for a task, by the name it is asked for."""
    return {
        "ours": systems.ours,
        "nanodrr": systems.nanodrr,
        "diffdrr": systems.diffdrr,
        "diffdrr_siddon": systems.diffdrr_siddon,
        "rtk": lambda task: rtk(task, rtk_python(folder)),
        "plastimatch": lambda task: plastimatch(task, "uniform"),
        "plastimatch_exact": lambda task: plastimatch(task, "exact"),
    }


def available(task: Task, folder: Path, names: tuple[str, ...] | None = None) -> tuple[dict[str, System], list[str]]:
    """The projectors that this machine has, by name, and a line for each that it has not."""
    found, absent = {}, []
    for name, make in makers(folder).items():
        if names is not None and name not in names:
            continue
        try:
            found[name] = make(task)
        except (ImportError, RuntimeError, NotHere) as error:
            absent.append(f"{name}: {error}")
    return found, absent


def agreement(folder: Path, threads: int, pixels: int) -> dict[str, Any]:
    """The rows of the table, `not_compared`, and whether all that must are within the limits."""
    task = real_ct(threads, pixels=pixels)
    exact = exact_pixels(task)
    found, absent = available(task, folder)
    mine = found["ours"].image()
    rows = []
    for name, system in found.items():
        image = system.image()
        to_ours = errors(image, mine.astype(float), 1)
        row = {"system": system.name, "version": system.version} | errors(image, exact, task.every)
        row |= {"ncc_to_ours": to_ours["ncc"], "scale_to_ours": to_ours["scale"]}
        row["held"] = not name.endswith(OTHER_FIELD)
        row["within"] = row["ncc_to_ours"] >= NCC and abs(row["scale_to_ours"] - 1) <= SCALE
        rows.append(row)
    good = all(row["within"] for row in rows if row["held"])
    limits = {"ncc": NCC, "scale": SCALE}
    return {"task": task.name, "limits": limits, "systems": rows, "not_compared": absent, "within_limits": good}
