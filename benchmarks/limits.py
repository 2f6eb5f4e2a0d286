"""Part floor: what this machine can load at all, measured by loops that do nothing else, and what fraction we reach.

The projector's inner loop is loads: two pairs of neighbouring float32 a sample, 64 bits each, in the order in which
lines of rays meet the planes. The loops below load such pairs one by one from places read from a list, in three orders.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import systems
from pairs import median_of
from tasks import Task, body

from hierbmd.drr.rays import camera_rays, field_interval, index_from_camera
from hierbmd.geometry import Grid

LOADS_A_SAMPLE = 2
_LIST = 4096
"""Places in a list: it stays in the first cache, whatever the loads do."""


@numba.njit(nogil=True, fastmath=True, cache=True)
def _load_pairs(pairs: Any, places: Any, shifts: Any) -> int:
    """Load pairs[place + shift] for every place and every shift; four sums, so that no addition waits for another."""
    a = b = c = d = 0
    for shift in shifts:
        for i in range(0, places.size, 4):
            a += pairs[places[i] + shift]
            b += pairs[places[i + 1] + shift]
            c += pairs[places[i + 2] + shift]
            d += pairs[places[i + 3] + shift]
    return a + b + c + d


@numba.njit(nogil=True, fastmath=True, cache=True)
def _read(values: Any) -> float:
    """The sum of an array, front to back."""
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


def machine_limits(size: int, threads: int, budget_s: float) -> dict[str, float]:
    """Loads of 64 bits a second and core in three orders, and bytes read a second by one core and by all.

    cached: at random within 256 KB. planes: 16 neighbours, then the same a plane on, as a line of rays marches through
    a volume of size^3, each voxel met four times, as a detector of voxels' size does. random: anywhere in that volume.
    """
    count = size**3 // 2
    # Written once: pages that nobody has written to are all one page of zeros, in the cache.
    pairs = np.ones(count, np.int64)
    generator = np.random.default_rng(0)
    plane = size * size // 2
    lanes, depth = np.meshgrid(np.arange(16), np.arange(min(_LIST // 16, size - 1)), indexing="ij")
    marched = np.ascontiguousarray((depth * plane + lanes // 2).T.ravel())
    marched = marched[: marched.size // 4 * 4]
    rows = np.repeat(np.arange(0, plane - 16, 8)[:256], 2)
    orders = {
        "cached": (generator.integers(0, 2**15, _LIST), np.zeros(256, np.int64)),
        "planes": (marched, rows),
        "random": (generator.integers(0, count // 2, _LIST), generator.integers(0, count // 2, 256)),
    }
    found = {}
    for name, (places, shifts) in orders.items():
        seconds = median_of(_timer(_load_pairs, pairs, places, shifts), budget_s=budget_s)
        found[f"{name}_loads_per_s"] = places.size * shifts.size / seconds
    stream = np.ones(max(size**3, 2**25) // 2, np.float64)
    found["stream_bytes_per_s"] = stream.nbytes / median_of(_timer(_read, stream), budget_s=budget_s)
    parts = np.array_split(stream, threads)
    with ThreadPoolExecutor(threads) as pool:
        seconds = median_of(_timer(lambda: list(pool.map(_read, parts))), budget_s=budget_s)
    found["stream_bytes_per_s_all_threads"] = stream.nbytes / seconds
    return found


def floor(size: int, pixels: int, threads: int, budget_s: float) -> dict[str, Any]:
    """The limits, and our samples and loads a second on a body, as fractions of what the cores can load.

    A sample is a plane of voxels that a ray crosses within the box of what is not zero, skipped or not.
    """
    task = body((size, size, size), pixels, threads)
    samples, voxels = samples_of(task), int(np.count_nonzero(task.scene.values))
    limits = machine_limits(size, threads, budget_s)
    mine = systems.ours(task)
    assert mine.gradient is not None
    rows = []
    for name, call in (("image", mine.forward), ("image and Jacobian", mine.gradient)):
        seconds = median_of(call, budget_s=3 * budget_s)
        loads = LOADS_A_SAMPLE * samples / seconds
        row = {"what": name, "seconds": seconds, "samples_per_s": samples / seconds, "loads_per_s": loads}
        for order in ("cached", "planes", "random"):
            row[f"of_{order}"] = loads / (threads * limits[f"{order}_loads_per_s"])
        # Each voxel that is not zero has to come from memory once, whatever the caches hold afterwards.
        row["of_stream"] = 4 * voxels / seconds / limits["stream_bytes_per_s_all_threads"]
        rows.append(row)
    sizes = {"samples": samples, "voxels_not_zero": voxels}
    return {"task": task.name, "threads": threads} | sizes | {"limits": limits, "rows": rows}


def samples_of(task: Task) -> int:
    """Planes that the task's rays cross within the box of what is not zero, along each ray's steepest axis."""
    filled = np.nonzero(task.scene.values)
    first = np.array([axis.min() for axis in filled])
    shape = tuple(int(axis.max()) + 1 - low for axis, low in zip(filled, first, strict=True))
    matrix = task.scene.grid.world_from_index.copy()
    matrix[:3, 3] += matrix[:3, :3] @ first
    source, step = camera_rays(index_from_camera(Grid(shape, matrix), task.pose), task.camera)
    start, end = field_interval(source, step, shape)
    return int(np.sum(np.maximum(end - start, 0) * np.abs(step).max(axis=-1)))


def _timer(call: Callable[..., Any], *arguments: Any) -> Callable[[], float]:
    def seconds() -> float:
        started = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - started

    seconds()
    return seconds
