"""The transpose of the projector's kernels: what a ray was given by its voxels it hands back, by the same weights.

A plane of voxels gets something only from its own crossings, so threads that take disjoint planes of an axis never
write to one voxel, and each voxel's terms are added in the order of the rays, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import Rays
from hierbmd.kernels import compiled


@compiled
def spread(rays: Rays, c: int, planes: tuple[int, int], weights: Any, labels: Any, out: Any) -> None:
    """Add the rays that step along axis c to the planes [first, last] of `out` (nc, na, nb) float32.

    `weights` (R, N, S) float32 is what one unit of a plane hands back for each structure, pixel times mm a plane.
    `labels` (nc, na, nb) uint8 names each voxel's structure from 1, or is empty where there is one structure.
    """
    first, last = planes
    for i in range(rays.axis.shape[0]):
        for j in range(rays.axis.shape[1]):
            if rays.axis[i, j] != c or not np.any(weights[i, j]):
                continue
            low, high = max(first, rays.planes[i, j, 0]), min(last, rays.planes[i, j, 1])
            for m in range(low, high + 1):
                weight = np.float32(1)
                if m < rays.planes[i, j, 2] or m > rays.planes[i, j, 3]:
                    line = rays.line[i, j]
                    weight = np.float32(_hat_integral(line[5] - m) - _hat_integral(line[4] - m))
                if labels.size == 0:
                    _add(rays, (i, j), m, weight * weights[i, j, 0], out)
                else:
                    _add_labels(rays, (i, j), m, (weight, weights), labels, out)


@compiled
def _hat_integral(u: float) -> float:
    """The integral of the unit hat from minus infinity to u: the weight of a plane in a ray that ends there."""
    if u <= -1.0:
        return 0.0
    if u >= 1.0:
        return 1.0
    if u < 0.0:
        return 0.5 * (1.0 + u) ** 2
    return 1.0 - 0.5 * (1.0 - u) ** 2


@compiled
def _crossing(rays: Rays, ray: Any, m: int, planes: int) -> Any:
    """Where a ray crosses plane m: the cell's lower corner and the place in the cell, on a and on b."""
    line, dm = rays.line[ray], m - planes // 2
    x, y = line[0] + dm * line[1], line[2] + dm * line[3]
    ix, iy = int(np.floor(x)), int(np.floor(y))
    return ix, iy, np.float32(x - ix), np.float32(y - iy)


@compiled
def _add(rays: Rays, ray: Any, m: int, value: Any, out: Any) -> None:
    ix, iy, fx, fy = _crossing(rays, ray, m, out.shape[0])
    one = np.float32(1)
    if 0 <= ix < out.shape[1] - 1 and 0 <= iy < out.shape[2] - 1:
        out[m, ix, iy] += value * (one - fx) * (one - fy)
        out[m, ix + 1, iy] += value * fx * (one - fy)
        out[m, ix, iy + 1] += value * (one - fx) * fy
        out[m, ix + 1, iy + 1] += value * fx * fy
        return
    for tap in range(4):
        a, b = ix + (tap & 1), iy + (tap >> 1)
        if 0 <= a < out.shape[1] and 0 <= b < out.shape[2]:
            out[m, a, b] += value * (fx if tap & 1 else one - fx) * (fy if tap >> 1 else one - fy)


@compiled
def _add_labels(rays: Rays, ray: Any, m: int, weights: Any, labels: Any, out: Any) -> None:
    ix, iy, fx, fy = _crossing(rays, ray, m, out.shape[0])
    one = np.float32(1)
    of_plane, of_ray = weights
    for tap in range(4):
        a, b = ix + (tap & 1), iy + (tap >> 1)
        if 0 <= a < out.shape[1] and 0 <= b < out.shape[2] and labels[m, a, b] > 0:
            share = (fx if tap & 1 else one - fx) * (fy if tap >> 1 else one - fy)
            out[m, a, b] += of_plane * of_ray[ray][labels[m, a, b] - 1] * share
