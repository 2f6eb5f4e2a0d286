"""First kernel: rays from pixels, in index space."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import Field, Rays, View
from hierbmd.kernels import compiled


@compiled
def aim(field: Field, view: View, first: int, count: int, rays: Rays) -> None:
    """Set up `count` lines of rays from line `first` on, in float64."""
    # Numbers are handed on, not parts of arrays: counting the references to parts would take longer than the work.
    matrix = view.index_from_camera
    nx, ny, nz = field.shape[0], field.shape[1], field.shape[2]
    for i in range(count):
        for j in range(rays.axis.shape[1]):
            row, col = (j, first + i) if view.by_columns else (first + i, j)
            x_mm, y_mm = view.x_mm[col], view.y_mm[row]
            sx, dx = _ray(matrix[0, 0] * x_mm, matrix[0, 1] * y_mm, matrix[0, 2] * view.sdd_mm, view.moves)
            sy, dy = _ray(matrix[1, 0] * x_mm, matrix[1, 1] * y_mm, matrix[1, 2] * view.sdd_mm, view.moves)
            sz, dz = _ray(matrix[2, 0] * x_mm, matrix[2, 1] * y_mm, matrix[2, 2] * view.sdd_mm, view.moves)
            sx, sy, sz = sx + matrix[0, 3], sy + matrix[1, 3], sz + matrix[2, 3]
            rays.source[i, j, 0], rays.source[i, j, 1], rays.source[i, j, 2] = sx, sy, sz
            rays.step[i, j, 0], rays.step[i, j, 1], rays.step[i, j, 2] = dx, dy, dz
            axis = _steepest(abs(dx), abs(dy), abs(dz))
            rays.axis[i, j] = axis
            if axis == 0:
                line, planes = _along((nx, ny, nz), (sx, sy, sz), (dx, dy, dz))
            elif axis == 1:
                line, planes = _along((ny, nz, nx), (sy, sz, sx), (dy, dz, dx))
            else:
                line, planes = _along((nz, nx, ny), (sz, sx, sy), (dz, dx, dy))
            for k in range(6):
                rays.line[i, j, k] = line[k]
            for k in range(4):
                rays.planes[i, j, k] = planes[k]


@compiled
def _ray(by_x: float, by_y: float, by_z: float, moves: tuple[float, float]) -> tuple[float, float]:
    """On one axis, how far the source has moved along with the pixel, and the step from it to the detector."""
    moved = moves[0] * by_x + moves[1] * by_y
    return moved, by_x + by_y - moved + by_z


@compiled
def _steepest(dx: float, dy: float, dz: float) -> int:
    """The axis of the longest step; ties fall to the first by more than rounding, so that neighbouring rays agree."""
    axis, largest = 0, dx
    if dy > largest * (1.0 + 1e-9):
        axis, largest = 1, dy
    return 2 if dz > largest * (1.0 + 1e-9) else axis


@compiled
def _along(shape: Any, source: Any, step: Any) -> Any:
    """The line (6) and planes (4) of a ray that steps along the first of the axes (c, a, b) of its shape and ends."""
    anchor = float(shape[0] // 2)
    bx, by = step[1] / step[0], step[2] / step[0]
    x0, y0 = source[1] + (anchor - source[0]) * bx, source[2] + (anchor - source[0]) * by
    lower, upper = min(source[0], source[0] + step[0]), max(source[0], source[0] + step[0])
    low = max(0.0, np.floor(lower))
    high = min(shape[0] - 1.0, np.ceil(upper))
    low, high = _clip(low, high, anchor, x0, bx, shape[1])
    low, high = _clip(low, high, anchor, y0, by, shape[2])
    line = (x0, bx, y0, by, lower, upper)
    if low > high:
        return line, (1, 0, 1, 0)
    whole = int(np.ceil(max(low, lower + 1.0))), int(np.floor(min(high, upper - 1.0)))
    return line, (int(np.ceil(low)), int(np.floor(high)), whole[0], whole[1])


@compiled
def _clip(low: float, high: float, anchor: float, at_anchor: float, slope: float, n: int) -> tuple[float, float]:
    """Narrow the planes [low, high] to those where at_anchor + (m - anchor) * slope lies in the field, (-1, n)."""
    if abs(slope) < 1e-9:
        if -1.0 < at_anchor < n:
            return low, high
        return 1.0, 0.0
    by_slope = 1.0 / slope
    first = anchor + (-1.0 - at_anchor) * by_slope
    last = anchor + (n - at_anchor) * by_slope
    return max(low, min(first, last)), min(high, max(first, last))
