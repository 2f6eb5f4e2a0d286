"""Third kernel: from the sums to pixels and their derivative by the pose, by the chain rule over a ray's two ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import Field, Rays, View, compiled


@compiled
def finish(field: Field, view: View, first: int, count: int, rays: Rays, image: Any, jacobian: Any) -> None:
    """Fill image (S, H, W) and, unless it is empty, jacobian (S, H, W, 6) in `count` lines of rays from `first` on."""
    for i in range(count):
        for j in range(rays.axis.shape[1]):
            row, col = (j, first + i) if view.by_columns else (first + i, j)
            met = rays.planes[i, j, 0] <= rays.planes[i, j, 1]
            pixel = (view.x_mm[col], view.y_mm[row], view.sdd_mm)
            source = (view.moves[0] * pixel[0], view.moves[1] * pixel[1], 0.0)
            length_mm = np.sqrt((pixel[0] - source[0]) ** 2 + (pixel[1] - source[1]) ** 2 + pixel[2] ** 2)
            scale_mm = length_mm / abs(rays.step[i, j, rays.axis[i, j]])
            for channel in range(image.shape[0]):
                image[channel, row, col] = rays.sums[i, j, channel, 0] * scale_mm if met else 0.0
                if jacobian.size == 0:
                    continue
                out = jacobian[channel, row, col]
                if met:
                    by_source, by_detector = _by_ends(field, rays, (i, j), channel, scale_mm)
                    if view.by_ends:
                        _by_points(view, (by_source, by_detector), out)
                    else:
                        _by_twist(view, (source, pixel), (by_source, by_detector), out)
                else:
                    out[:] = 0.0


@compiled
def _by_ends(field: Field, rays: Rays, ray: Any, channel: int, scale_mm: float) -> Any:
    """The derivative of a pixel by its source and by its detector point in index space, two (3,) tuples."""
    c = rays.axis[ray]
    sums, line, step = rays.sums[ray][channel], rays.line[ray], rays.step[ray][c]
    from_source = field.shape[c] // 2 - rays.source[ray][c]
    by_x, by_y = scale_mm * sums[1], scale_mm * sums[2]
    by_bx = (scale_mm * sums[3] + by_x * from_source) / step
    by_by = (scale_mm * sums[4] + by_y * from_source) / step
    # Slopes are ratios of steps, and mm per plane is length / |step|; the step is detector - source.
    by_step = by_bx * line[1] + by_by * line[3] + scale_mm * sums[0] / step
    by_lower, by_upper = scale_mm * sums[5], scale_mm * sums[6]
    if step < 0:
        by_lower, by_upper = by_upper, by_lower
    source = (by_step - by_x * line[1] - by_y * line[3] + by_lower, by_x - by_bx, by_y - by_by)
    detector = (by_upper - by_step, by_bx, by_by)
    return _in_order(source, c), _in_order(detector, c)


@compiled
def _in_order(along_first: Any, c: int) -> Any:
    """Components on c, a, b as components on the index axes."""
    if c == 0:
        return along_first
    if c == 1:
        return along_first[2], along_first[0], along_first[1]
    return along_first[1], along_first[2], along_first[0]


@compiled
def _by_points(view: View, by_ends: Any, out: Any) -> None:
    """The derivative by the source's and the detector point's place in camera mm, into out (6,)."""
    source, detector = _force(view, by_ends[0]), _force(view, by_ends[1])
    for i in range(3):
        out[i], out[3 + i] = -source[i], -detector[i]


@compiled
def _by_twist(view: View, ends: Any, by_ends: Any, out: Any) -> None:
    """The derivative by the six of `rigid.moved`, as `rays.twist_jacobian` writes it, into out (6,)."""
    source, detector = _force(view, by_ends[0]), _force(view, by_ends[1])
    start, pixel = ends
    pivot = view.pivot_mm
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[i] = (pixel[j] - pivot[j]) * detector[k] - (pixel[k] - pivot[k]) * detector[j]
        out[i] += (start[j] - pivot[j]) * source[k] - (start[k] - pivot[k]) * source[j]
        out[3 + i] = source[i] + detector[i]


@compiled
def _force(view: View, by_index: Any) -> Any:
    """Minus the derivative in camera axes: moving the patient by dX moves a ray's end by -dX within it."""
    m = view.index_from_camera
    return (
        -(m[0, 0] * by_index[0] + m[1, 0] * by_index[1] + m[2, 0] * by_index[2]),
        -(m[0, 1] * by_index[0] + m[1, 1] * by_index[1] + m[2, 1] * by_index[2]),
        -(m[0, 2] * by_index[0] + m[1, 2] * by_index[1] + m[2, 2] * by_index[2]),
    )
