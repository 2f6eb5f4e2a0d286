"""First kernel: rays from pixels, in index space."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import Field, Rays, View, compiled


@compiled
def aim(field: Field, view: View, first: int, count: int, rays: Rays) -> None:
    """Set up `count` lines of rays from line `first` on, in float64."""
    matrix = view.index_from_camera
    for i in range(count):
        for j in range(rays.axis.shape[1]):
            row, col = (j, first + i) if view.by_columns else (first + i, j)
            axis, largest = 0, -1.0
            for k in range(3):
                across = matrix[k, 0] * view.x_mm[col], matrix[k, 1] * view.y_mm[row]
                moved = view.moves[0] * across[0] + view.moves[1] * across[1]
                step = across[0] + across[1] - moved + matrix[k, 2] * view.sdd_mm
                rays.source[i, j, k], rays.step[i, j, k] = matrix[k, 3] + moved, step
                # Ties fall to the first axis by more than rounding, so that neighbouring rays agree.
                if abs(step) > largest * (1.0 + 1e-9):
                    axis, largest = k, abs(step)
            rays.axis[i, j] = axis
            _aim_along(field, axis, (rays.source[i, j], rays.step[i, j]), rays.line[i, j], rays.planes[i, j])


@compiled
def _aim_along(field: Field, c: int, ray: Any, line: Any, planes: Any) -> None:
    a, b = (c + 1) % 3, (c + 2) % 3
    sources, steps = ray
    source, step = sources[c], steps[c]
    anchor = float(field.shape[c] // 2)
    line[1], line[3] = steps[a] / step, steps[b] / step
    line[0] = sources[a] + (anchor - source) * line[1]
    line[2] = sources[b] + (anchor - source) * line[3]
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


@compiled
def _clip(low: float, high: float, anchor: float, at_anchor: float, slope: float, n: int) -> tuple[float, float]:
    """Narrow the planes [low, high] to those where at_anchor + (m - anchor) * slope lies in the field, (-1, n)."""
    if abs(slope) < 1e-9:
        if -1.0 < at_anchor < n:
            return low, high
        return 1.0, 0.0
    first = anchor + (-1.0 - at_anchor) / slope
    last = anchor + (n - at_anchor) / slope
    return max(low, min(first, last)), min(high, max(first, last))
