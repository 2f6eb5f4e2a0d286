"""Second kernel: the sums along each ray, one ray after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import PAD, Field, Rays, compiled


@compiled
def march(field: Field, count: int, rays: Rays, every: bool) -> None:
    """Fill the sums of `count` lines of rays: of every ray, or only of those that end inside the volume."""
    for i in range(count):
        for j in range(rays.axis.shape[1]):
            planes = rays.planes[i, j]
            whole = planes[0] == planes[2] and planes[1] == planes[3]
            if planes[0] <= planes[1] and (every or not whole):
                rays.sums[i, j] = 0.0
                _integrate(field, rays, (i, j), rays.sums[i, j])


@compiled
def _integrate(field: Field, rays: Rays, ray: Any, sums: Any) -> None:
    """Add one ray's planes to its sums (S, 7): those of full weight first, then the ends'."""
    planes, line = rays.planes[ray], rays.line[ray]
    if field.labels.size == 1:
        _march(field, rays, ray, sums[0])
    else:
        _march_labels(field, rays, ray, sums)
    for m in range(planes[0], planes[1] + 1):
        if planes[2] <= m <= planes[3]:
            continue
        weight = _hat_integral(line[5] - m) - _hat_integral(line[4] - m)
        lower, upper = -max(0.0, 1.0 - abs(line[4] - m)), max(0.0, 1.0 - abs(line[5] - m))
        _add_end_plane(field, rays, ray, m, (weight, lower, upper), sums)


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
def _march(field: Field, rays: Rays, ray: Any, sums: Any) -> None:
    """The planes of full weight of a ray, for one structure."""
    c = rays.axis[ray]
    sa, sb, sc = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3], field.strides[c]
    anchor = field.shape[c] // 2
    x0, bx = np.float32(rays.line[ray][0] + PAD), np.float32(rays.line[ray][1])
    y0, by = np.float32(rays.line[ray][2] + PAD), np.float32(rays.line[ray][3])
    corner = field.origin - PAD * (sa + sb)
    total = gx = gy = hx = hy = np.float32(0)
    for m in range(rays.planes[ray][2], rays.planes[ray][3] + 1):
        dm = np.float32(m - anchor)
        x, y = x0 + dm * bx, y0 + dm * by
        ix, iy = np.int32(x), np.int32(y)
        fx, fy = x - np.float32(ix), y - np.float32(iy)
        at = np.uint64(corner + ix * sa + iy * sb + m * sc)
        v00, v10 = field.values[at], field.values[at + np.uint64(sa)]
        v01, v11 = field.values[at + np.uint64(sb)], field.values[at + np.uint64(sa + sb)]
        low, high = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
        dx = (v10 - v00) + fy * ((v11 - v01) - (v10 - v00))
        dy = high - low
        total += low + fy * dy
        gx += dx
        gy += dy
        hx += dm * dx
        hy += dm * dy
    sums[0], sums[1], sums[2], sums[3], sums[4] = total, gx, gy, hx, hy


@compiled
def _march_labels(field: Field, rays: Rays, ray: Any, sums: Any) -> None:
    """The planes of full weight of a ray, each tap added to its voxel's structure; sums (S, 7)."""
    c = rays.axis[ray]
    sa, sb, sc = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3], field.strides[c]
    anchor = field.shape[c] // 2
    x0, bx = np.float32(rays.line[ray][0] + PAD), np.float32(rays.line[ray][1])
    y0, by = np.float32(rays.line[ray][2] + PAD), np.float32(rays.line[ray][3])
    corner = field.origin - PAD * (sa + sb)
    for m in range(rays.planes[ray][2], rays.planes[ray][3] + 1):
        dm = np.float32(m - anchor)
        x, y = x0 + dm * bx, y0 + dm * by
        ix, iy = np.int32(x), np.int32(y)
        at = corner + ix * sa + iy * sb + m * sc
        l00, l10 = field.labels[at], field.labels[at + sa]
        l01, l11 = field.labels[at + sb], field.labels[at + sa + sb]
        if (l00 | l10 | l01 | l11) == 0:
            continue
        fx, fy = x - np.float32(ix), y - np.float32(iy)
        one = np.float32(1)
        if l00 > 0:
            _add_tap(sums[l00 - 1], field.values[at], (one - fx, one - fy, -one, -one), dm)
        if l10 > 0:
            _add_tap(sums[l10 - 1], field.values[at + sa], (fx, one - fy, one, -one), dm)
        if l01 > 0:
            _add_tap(sums[l01 - 1], field.values[at + sb], (one - fx, fy, -one, one), dm)
        if l11 > 0:
            _add_tap(sums[l11 - 1], field.values[at + sa + sb], (fx, fy, one, one), dm)


@compiled
def _add_tap(sums: Any, value: Any, tap: Any, dm: Any) -> None:
    """Add a voxel's share to its structure's sums (7,); `tap` is its weights in x and y and their signs."""
    dx, dy = value * tap[2] * tap[1], value * tap[3] * tap[0]
    sums[0] += value * tap[0] * tap[1]
    sums[1] += dx
    sums[2] += dy
    sums[3] += dm * dx
    sums[4] += dm * dy


@compiled
def _add_end_plane(field: Field, rays: Rays, ray: Any, m: int, weights: tuple[float, float, float], sums: Any) -> None:
    """Add a plane at an end of a ray: `weights` are its weight, and how that grows with the lower and the upper end."""
    c = rays.axis[ray]
    sa, sb = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3]
    dm = m - field.shape[c] // 2
    x, y = rays.line[ray][0] + dm * rays.line[ray][1], rays.line[ray][2] + dm * rays.line[ray][3]
    ix, iy = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - ix, y - iy
    for tap in range(4):
        ox, oy = tap & 1, tap >> 1
        at = field.origin + (ix + ox) * sa + (iy + oy) * sb + m * field.strides[c]
        channel = int(field.labels[at]) - 1 if field.labels.size > 1 else 0
        if channel < 0:
            continue
        wx, wy = fx if ox else 1.0 - fx, fy if oy else 1.0 - fy
        value = field.values[at]
        dx, dy = weights[0] * value * wy * (2 * ox - 1), weights[0] * value * wx * (2 * oy - 1)
        row = sums[channel]
        row[0] += weights[0] * value * wx * wy
        row[1] += dx
        row[2] += dy
        row[3] += dm * dx
        row[4] += dm * dy
        row[5] += weights[1] * value * wx * wy
        row[6] += weights[2] * value * wx * wy
