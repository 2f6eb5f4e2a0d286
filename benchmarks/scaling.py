"""Part scaling: cost against the number of voxels, of pixels and of structures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import systems
from agreement import available
from pairs import median_of
from scenes import divided
from tasks import Task, body

PEERS = ("nanodrr", "rtk")
_SLOW_S = 4.0
"""A peer that took longer is not asked for the next larger size."""


def scaling(
    folder: Path, threads: int, sizes: dict[str, tuple[int, ...]], say: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of image and of image with Jacobian, and of the peers' image, for each of `sizes`.

    Its keys: "voxels" and "pixels" a side, "structures", and of each the middle one is what the others are held at.
    """
    voxels, pixels = (sizes[name][len(sizes[name]) // 2] for name in ("voxels", "pixels"))
    out: dict[str, Any] = {"voxels_a_side": voxels, "pixels_a_side": pixels, "threads": threads}
    say("  by voxels")
    out["voxels"] = _rows(sizes["voxels"], lambda n: body((n, n, n), pixels, threads), folder, PEERS)
    say("  by pixels")
    middle = body((voxels, voxels, voxels), pixels, threads)
    by_pixels = {n: body(middle.scene.values.shape, n, threads, values=middle.scene.values) for n in sizes["pixels"]}
    out["pixels"] = _rows(sizes["pixels"], by_pixels.__getitem__, folder, PEERS)
    say("  by structures")
    out["structures"] = _rows(
        sizes["structures"], lambda n: replace(middle, scene=divided(middle.scene, n)), folder, ()
    )
    return out


def _rows(
    sizes: tuple[int, ...], make: Callable[[int], Task], folder: Path, peers: tuple[str, ...]
) -> list[dict[str, Any]]:
    rows, still = [], set(peers)
    for size in sizes:
        task = make(size)
        mine = systems.ours(task)
        assert mine.gradient is not None
        row: dict[str, Any] = {"size": size, "forward_s": median_of(mine.forward, budget_s=1.0)}
        row["gradient_s"] = median_of(mine.gradient, budget_s=1.0)
        found, _ = available(task, folder, tuple(still))
        for name, system in found.items():
            row[f"{name}_forward_s"] = median_of(system.forward, budget_s=1.0, least=1, most=5)
            if row[f"{name}_forward_s"] > _SLOW_S:
                still.discard(name)
        rows.append(row)
    return rows
