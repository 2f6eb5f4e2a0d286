"""The compiled kernels of the CPU projector: Joseph's method, image and pose Jacobian in one pass.

A ray steps through the planes of the index axis along which it is steepest and interpolates bilinearly in each plane
(P. M. Joseph, IEEE Trans Med Imaging 1982): the trapezoid rule on the trilinear field. Between planes the field is
taken as linear, so a ray that starts or ends inside the volume gives the planes at its ends part of their weight.

Notation: c is the axis that a ray steps along, a and b the next two in cyclic order, x and y the places on them. In
plane m, x = x0 + (m - anchor) * bx; the anchor is the middle plane, which keeps float32 exact to 1e-5 voxel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np

PAD = 2
"""Zero voxels around the volume: one is the zero-padded field's rim; a clipped ray may round into the second."""

SUMS = 7
"""Per ray and structure: the sum; its d/dx, d/dy; those two times (m - anchor); the lower and the upper end's terms."""


class Field(NamedTuple):
    """The padded volume, flat: `values` float32, `labels` uint8 (one element where there is one structure).

    `shape` is without the padding; `strides` (elements) and `origin` (the flat place of voxel 0, 0, 0) are with it.
    """

    values: Any
    labels: Any
    shape: Any
    strides: Any
    origin: int


class View(NamedTuple):
    """`index_from_camera` (4, 4), the pixels' `x_mm` (W,) and `y_mm` (H,), `sdd_mm`, the pivot in camera mm (3,)."""

    index_from_camera: Any
    x_mm: Any
    y_mm: Any
    sdd_mm: float
    pivot_mm: Any


class Rays(NamedTuple):
    """One row of rays: `axis` (W,) is c; `line` (W, 6) holds x0, bx, y0, by and the two ends on c.

    `planes` (W, 4): the first and last plane met, the first and last of full weight. `step` (W, 3): detector - source.
    """

    axis: Any
    line: Any
    planes: Any
    step: Any


_compile = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})


@_compile
def project_rows(field: Field, view: View, rows: Any, image: Any, jacobian: Any) -> None:
    """Fill image (S, H, W) and, unless it is empty, jacobian (S, H, W, 6) in the rows [rows[0], rows[1])."""
    structures, width = image.shape[0], image.shape[2]
    rays = Rays(np.empty(width, np.int64), np.empty((width, 6)), np.empty((width, 4), np.int64), np.empty((width, 3)))
    sums = np.empty((width, structures, SUMS), np.float32)
    for row in range(rows[0], rows[1]):
        _aim(field, view, row, rays)
        sums[:] = 0.0
        for ray in range(width):
            if rays.planes[ray, 0] <= rays.planes[ray, 1]:
                _integrate(field, rays, ray, sums[ray])
        _finish(field, view, row, rays, sums, image, jacobian)


@_compile
def _aim(field: Field, view: View, row: int, rays: Rays) -> None:
    """Set up one row's rays in index space, float64."""
    matrix = view.index_from_camera
    for ray in range(view.x_mm.size):
        axis, largest = 0, -1.0
        for i in range(3):
            step = matrix[i, 0] * view.x_mm[ray] + matrix[i, 1] * view.y_mm[row] + matrix[i, 2] * view.sdd_mm
            rays.step[ray, i] = step
            # Ties fall to the first axis by more than rounding, so that neighbouring rays agree.
            if abs(step) > largest * (1.0 + 1e-9):
                axis, largest = i, abs(step)
        rays.axis[ray] = axis
        _aim_along(field, matrix, rays, ray)


@_compile
def _aim_along(field: Field, matrix: Any, rays: Rays, ray: int) -> None:
    c = rays.axis[ray]
    a, b = (c + 1) % 3, (c + 2) % 3
    source, step = matrix[c, 3], rays.step[ray, c]
    anchor = float(field.shape[c] // 2)
    line, planes = rays.line[ray], rays.planes[ray]
    line[1], line[3] = rays.step[ray, a] / step, rays.step[ray, b] / step
    line[0] = matrix[a, 3] + (anchor - source) * line[1]
    line[2] = matrix[b, 3] + (anchor - source) * line[3]
    line[4], line[5] = min(source, source + step), max(source, source + step)
    low = max(0.0, np.floor(line[4]))
    high = min(field.shape[c] - 1.0, np.ceil(line[5]))
    low, high = _clip(low, high, anchor, line[0], line[1], field.shape[a])
    low, high = _clip(low, high, anchor, line[2], line[3], field.shape[b])
    if low > high:
        planes[0], planes[1] = 1, 0
        return
    planes[0], planes[1] = int(np.ceil(low)), int(np.floor(high))
    planes[2] = int(np.ceil(max(low, line[4] + 1.0)))
    planes[3] = int(np.floor(min(high, line[5] - 1.0)))


@_compile
def _clip(low: float, high: float, anchor: float, at_anchor: float, slope: float, n: int) -> tuple[float, float]:
    """Narrow the planes [low, high] to those where at_anchor + (m - anchor) * slope lies in the field, (-1, n)."""
    if abs(slope) < 1e-9:
        if -1.0 < at_anchor < n:
            return low, high
        return 1.0, 0.0
    first = anchor + (-1.0 - at_anchor) / slope
    last = anchor + (n - at_anchor) / slope
    return max(low, min(first, last)), min(high, max(first, last))


@_compile
def _integrate(field: Field, rays: Rays, ray: int, sums: Any) -> None:
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


@_compile
def _hat_integral(u: float) -> float:
    """The integral of the unit hat from minus infinity to u: the weight of a plane in a ray that ends there."""
    if u <= -1.0:
        return 0.0
    if u >= 1.0:
        return 1.0
    if u < 0.0:
        return 0.5 * (1.0 + u) ** 2
    return 1.0 - 0.5 * (1.0 - u) ** 2


@_compile
def _march(field: Field, rays: Rays, ray: int, sums: Any) -> None:
    """The planes of full weight of a ray, for one structure."""
    c = rays.axis[ray]
    sa, sb, sc = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3], field.strides[c]
    anchor = field.shape[c] // 2
    x0, bx = np.float32(rays.line[ray, 0] + PAD), np.float32(rays.line[ray, 1])
    y0, by = np.float32(rays.line[ray, 2] + PAD), np.float32(rays.line[ray, 3])
    corner = field.origin - PAD * (sa + sb)
    total = gx = gy = hx = hy = np.float32(0)
    for m in range(rays.planes[ray, 2], rays.planes[ray, 3] + 1):
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


@_compile
def _march_labels(field: Field, rays: Rays, ray: int, sums: Any) -> None:
    """The planes of full weight of a ray, each tap added to its voxel's structure; sums (S, 7)."""
    c = rays.axis[ray]
    sa, sb, sc = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3], field.strides[c]
    anchor = field.shape[c] // 2
    x0, bx = np.float32(rays.line[ray, 0] + PAD), np.float32(rays.line[ray, 1])
    y0, by = np.float32(rays.line[ray, 2] + PAD), np.float32(rays.line[ray, 3])
    corner = field.origin - PAD * (sa + sb)
    for m in range(rays.planes[ray, 2], rays.planes[ray, 3] + 1):
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


@_compile
def _add_tap(sums: Any, value: Any, tap: Any, dm: Any) -> None:
    """Add a voxel's share to its structure's sums (7,); `tap` is its weights in x and y and their signs."""
    dx, dy = value * tap[2] * tap[1], value * tap[3] * tap[0]
    sums[0] += value * tap[0] * tap[1]
    sums[1] += dx
    sums[2] += dy
    sums[3] += dm * dx
    sums[4] += dm * dy


@_compile
def _add_end_plane(field: Field, rays: Rays, ray: int, m: int, weights: tuple[float, float, float], sums: Any) -> None:
    """Add a plane at an end of a ray: `weights` are its weight, and how that grows with the lower and the upper end."""
    c = rays.axis[ray]
    sa, sb = field.strides[(c + 1) % 3], field.strides[(c + 2) % 3]
    dm = m - field.shape[c] // 2
    x, y = rays.line[ray, 0] + dm * rays.line[ray, 1], rays.line[ray, 2] + dm * rays.line[ray, 3]
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


@_compile
def _finish(field: Field, view: View, row: int, rays: Rays, sums: Any, image: Any, jacobian: Any) -> None:
    """From the sums to pixels: image = sum * mm per plane; the Jacobian by the chain rule over a ray's two ends."""
    for ray in range(rays.axis.size):
        c = rays.axis[ray]
        pixel = (view.x_mm[ray], view.y_mm[row], view.sdd_mm)
        length_mm = np.sqrt(pixel[0] ** 2 + pixel[1] ** 2 + pixel[2] ** 2)
        scale_mm = length_mm / abs(rays.step[ray, c])
        missed = rays.planes[ray, 0] > rays.planes[ray, 1]
        for channel in range(image.shape[0]):
            image[channel, row, ray] = sums[ray, channel, 0] * scale_mm
            if jacobian.size == 0:
                continue
            if missed:
                jacobian[channel, row, ray] = 0.0
            else:
                by_ends = _by_ends(field, view, rays, ray, sums[ray, channel], scale_mm)
                _by_twist(view, pixel, by_ends, jacobian[channel, row, ray])


@_compile
def _by_ends(field: Field, view: View, rays: Rays, ray: int, sums: Any, scale_mm: float) -> Any:
    """The derivative of a pixel by its source and its detector point in index space, (2, 3)."""
    c = rays.axis[ray]
    by = np.zeros((2, 3))
    source, step = view.index_from_camera[c, 3], rays.step[ray, c]
    from_source = field.shape[c] // 2 - source
    for i in range(2):
        across, slope = (c + 1 + i) % 3, rays.line[ray, 1 + 2 * i]
        by_place = scale_mm * sums[1 + i]
        by_slope = scale_mm * sums[3 + i] + by_place * from_source
        by[0, across] += by_place - by_slope / step
        by[1, across] += by_slope / step
        by[0, c] += by_slope * slope / step - by_place * slope
        by[1, c] -= by_slope * slope / step
    # mm per plane is length / |step|, and the step is detector - source.
    by[0, c] += scale_mm * sums[0] / step
    by[1, c] -= scale_mm * sums[0] / step
    lower = 0 if step > 0 else 1
    by[lower, c] += scale_mm * sums[5]
    by[1 - lower, c] += scale_mm * sums[6]
    return by


@_compile
def _by_twist(view: View, pixel: tuple[float, float, float], by_ends: Any, out: Any) -> None:
    """The derivative by the six of `geometry.moved`, as `rays.twist_jacobian` writes it, into out (6,)."""
    out[:] = 0.0
    for end in range(2):
        force = np.zeros(3)
        for i in range(3):
            for k in range(3):
                force[i] -= view.index_from_camera[k, i] * by_ends[end, k]
        arm = np.empty(3)
        for i in range(3):
            arm[i] = (pixel[i] if end else 0.0) - view.pivot_mm[i]
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            out[i] += arm[j] * force[k] - arm[k] * force[j]
            out[3 + i] += force[i]
