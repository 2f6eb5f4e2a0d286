"""Second kernel: the sums along rays that end inside the volume, one ray after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import BEYOND, TILE, Field, Rays
from hierbmd.kernels import compiled


@compiled
def march(field: Field, count: int, rays: Rays) -> None:
    """Fill the sums of the rays of `count` lines that end inside the volume; those of the others are left."""
    for i in range(count):
        for j in range(rays.axis.shape[1]):
            first, last = rays.planes[i, j, 0], rays.planes[i, j, 1]
            whole = first == rays.planes[i, j, 2] and last == rays.planes[i, j, 3]
            if first <= last and not whole:
                for m in range(first, last + 1):
                    _add_plane(field, rays, (i, j), m)


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
def _add_plane(field: Field, rays: Rays, ray: Any, m: int) -> None:
    """Add a plane to a ray's sums, by its weight, and how that grows with the ray's lower and upper end."""
    i, j = ray
    lower, upper = rays.line[i, j, 4] - m, rays.line[i, j, 5] - m
    weight, by_lower, by_upper = 1.0, 0.0, 0.0
    if m < rays.planes[i, j, 2] or m > rays.planes[i, j, 3]:
        weight = _hat_integral(upper) - _hat_integral(lower)
        by_lower, by_upper = -max(0.0, 1.0 - abs(lower)), max(0.0, 1.0 - abs(upper))
    c = rays.axis[i, j]
    sa, sb = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3]
    dm = m - field.shape[c] // 2
    x, y = rays.line[i, j, 0] + dm * rays.line[i, j, 1], rays.line[i, j, 2] + dm * rays.line[i, j, 3]
    ix, iy = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - ix, y - iy
    for tap in range(4):
        ox, oy = tap & 1, tap >> 1
        at = field.origin + (ix + ox) * sa + (iy + oy) * sb + m * field.strides[c]
        channel = int(field.labels[at]) - 1 if field.labels.size > BEYOND else 0
        if channel < 0:
            continue
        wx, wy = fx if ox else 1.0 - fx, fy if oy else 1.0 - fy
        value = field.values[at]
        dx, dy = weight * value * wy * (2 * ox - 1), weight * value * wx * (2 * oy - 1)
        rays.met[i, channel, j // TILE] = 1
        rays.sums[i, channel, 0, j] += weight * value * wx * wy
        rays.sums[i, channel, 1, j] += dx
        rays.sums[i, channel, 2, j] += dy
        rays.sums[i, channel, 3, j] += dm * dx
        rays.sums[i, channel, 4, j] += dm * dy
        rays.sums[i, channel, 5, j] += by_lower * value * wx * wy
        rays.sums[i, channel, 6, j] += by_upper * value * wx * wy
