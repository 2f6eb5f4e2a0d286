"""What share of a pixel a shape with a straight edge covers: the pixel's box against a half-plane, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NARROW = 1e-6


def along_normal(depth_mm: Floats, widths_mm: Floats) -> Floats:
    """The share of a pixel within a straight edge, by the depth of its centre inside (...,), mm.

    `widths_mm` (..., 2) or (2,) are the pixel's two sides as they project on the edge's normal: the share is the
    chance that depth + u + v is above zero for u, v even within half a width to either side. A curved edge is taken as
    straight within the pixel.
    """
    widths = np.maximum(np.asarray(widths_mm, dtype=np.float64), _NARROW)
    wide, narrow = np.max(widths, axis=-1), np.min(widths, axis=-1)
    flat, end = 0.5 * (wide - narrow), 0.5 * (wide + narrow)
    inside = np.clip(np.abs(depth_mm), 0.0, end)
    middle = inside / wide
    corner = np.maximum(inside - flat, 0.0) ** 2 / (2.0 * wide * narrow)
    return np.asarray(0.5 + np.sign(depth_mm) * np.minimum(middle - corner, 0.5))


def slab_share(position_mm: Floats, half_mm: float, widths_mm: Floats) -> Floats:
    """The share of a pixel within a slab, by the position of its centre across the slab's middle, mm."""
    return along_normal(half_mm - position_mm, widths_mm) + along_normal(half_mm + position_mm, widths_mm) - 1.0
