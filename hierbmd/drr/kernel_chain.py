"""Last kernel: from the sums to pixels and their derivative by the pose, by the chain rule over a ray's two ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import TILE, Field, Rays, View
from hierbmd.kernels import compiled


@compiled
def finish(field: Field, view: View, first: int, count: int, rays: Rays, image: Any, jacobian: Any) -> None:
    """Write `count` lines of rays from `first` on to image (S, H, W) and, unless it is empty, jacobian (S, H, W, 6).

    Both are zero before; where a structure was not met they are left so.
    """
    # Numbers are handed on, not parts of arrays: counting the references to parts would take longer than the work.
    m = view.index_from_camera
    matrix = ((m[0, 0], m[0, 1], m[0, 2]), (m[1, 0], m[1, 1], m[1, 2]), (m[2, 0], m[2, 1], m[2, 2]))
    pivot = (view.pivot_mm[0], view.pivot_mm[1], view.pivot_mm[2])
    for i in range(count):
        for channel in range(image.shape[0]):
            for tile in range(rays.met.shape[2]):
                if rays.met[i, channel, tile] == 0:
                    continue
                for j in range(tile * TILE, min(tile * TILE + TILE, rays.axis.shape[1])):
                    row, col = (j, first + i) if view.by_columns else (first + i, j)
                    c = rays.axis[i, j]
                    step = rays.step[i, j, c]
                    pixel = (view.x_mm[col], view.y_mm[row], view.sdd_mm)
                    source = (view.moves[0] * pixel[0], view.moves[1] * pixel[1], 0.0)
                    across = (pixel[0] - source[0], pixel[1] - source[1])
                    scale_mm = np.sqrt(across[0] ** 2 + across[1] ** 2 + pixel[2] ** 2) / abs(step)
                    total = rays.sums[i, channel, 0, j]
                    image[channel, row, col] = total * scale_mm
                    if jacobian.size == 0:
                        continue
                    by_x, by_y = rays.sums[i, channel, 1, j], rays.sums[i, channel, 2, j]
                    by_mx, by_my = rays.sums[i, channel, 3, j], rays.sums[i, channel, 4, j]
                    lower, upper = rays.sums[i, channel, 5, j], rays.sums[i, channel, 6, j]
                    along = (field.shape[c] // 2 - rays.source[i, j, c], step, rays.line[i, j, 1], rays.line[i, j, 3])
                    by_ends = _by_ends(c, (total, by_x, by_y, by_mx, by_my, lower, upper), along, scale_mm)
                    forces = _force(matrix, by_ends[0]), _force(matrix, by_ends[1])
                    six = _by_points(forces) if view.by_ends else _by_twist((source, pixel), forces, pivot)
                    for k in range(6):
                        jacobian[channel, row, col, k] = six[k]


@compiled
def _by_ends(c: int, sums: Any, along: Any, scale_mm: float) -> Any:
    """The derivative of a pixel by its source and by its detector point in index space, two (3,) tuples.

    `along` is the way from the source to the anchor and the step on c, and the slopes on a and b.
    """
    from_source, step, slope_a, slope_b = along
    by_x, by_y = scale_mm * sums[1], scale_mm * sums[2]
    by_bx = (scale_mm * sums[3] + by_x * from_source) / step
    by_by = (scale_mm * sums[4] + by_y * from_source) / step
    # Slopes are ratios of steps, and mm per plane is length / |step|; the step is detector - source.
    by_step = by_bx * slope_a + by_by * slope_b + scale_mm * sums[0] / step
    by_lower, by_upper = scale_mm * sums[5], scale_mm * sums[6]
    if step < 0:
        by_lower, by_upper = by_upper, by_lower
    source = (by_step - by_x * slope_a - by_y * slope_b + by_lower, by_x - by_bx, by_y - by_by)
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
def _by_points(forces: Any) -> Any:
    """The derivative by the source's and the detector point's place in camera mm, (6,)."""
    source, detector = forces
    return -source[0], -source[1], -source[2], -detector[0], -detector[1], -detector[2]


@compiled
def _by_twist(ends: Any, forces: Any, pivot: Any) -> Any:
    """The derivative by the six of `rigid.moved`, as `rays.twist_jacobian` writes it, (6,)."""
    torques = _torque(ends[0], forces[0], pivot), _torque(ends[1], forces[1], pivot)
    return (
        torques[0][0] + torques[1][0],
        torques[0][1] + torques[1][1],
        torques[0][2] + torques[1][2],
        forces[0][0] + forces[1][0],
        forces[0][1] + forces[1][1],
        forces[0][2] + forces[1][2],
    )


@compiled
def _torque(end: Any, force: Any, pivot: Any) -> Any:
    x, y, z = end[0] - pivot[0], end[1] - pivot[1], end[2] - pivot[2]
    return y * force[2] - z * force[1], z * force[0] - x * force[2], x * force[1] - y * force[0]


@compiled
def _force(m: Any, by_index: Any) -> Any:
    """Minus the derivative in camera axes: moving the patient by dX moves a ray's end by -dX within it."""
    return (
        -(m[0][0] * by_index[0] + m[1][0] * by_index[1] + m[2][0] * by_index[2]),
        -(m[0][1] * by_index[0] + m[1][1] * by_index[1] + m[2][1] * by_index[2]),
        -(m[0][2] * by_index[0] + m[1][2] * by_index[1] + m[2][2] * by_index[2]),
    )
