"""Whether values can be Hounsfield units at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import NonFiniteVoxels, NotHounsfield

_SMALLEST_SPAN_HU = 20.0
_HIGHEST_HU = 66_000.0
_LOWEST_HU = -33_000.0
_PADDING_BELOW_HU = -1024.0


def require_finite(values: NDArray[Any], where: object) -> None:
    """NonFiniteVoxels, with their count and the first index, when there is a NaN or an infinity."""
    if values.dtype.kind != "f":
        return
    # A sum is finite only if every term is, so the common case needs no mask.
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(values, dtype=np.float64)):
            return
    wrong = ~np.isfinite(values)
    if not wrong.any():
        return
    first = tuple(int(n) for n in np.unravel_index(int(np.argmax(wrong)), values.shape))
    raise NonFiniteVoxels(
        f"{int(wrong.sum())} voxels are NaN or infinite, the first at {first}",
        where=where,
        mend="write the image again without them",
    )


def require_hounsfield(values: NDArray[Any], where: object) -> None:
    """NotHounsfield, naming the suspected scale, when values cannot be a CT in HU.

    Fat, marrow and noise reach below 0 in any crop of a patient, and air to -1000, so a volume with nothing below zero
    (besides padding) is another scale; so is one that spans less than the noise of a scan, or leaves 17 bits.
    """
    low, high = float(values.min()), float(values.max())
    suspect = ""
    if low == high:
        suspect = f"every voxel is {low:g}"
    elif high > _HIGHEST_HU or low < _LOWEST_HU:
        suspect = f"they reach from {low:g} to {high:g}"
    elif high - low < _SMALLEST_SPAN_HU:
        suspect = f"they span {low:g} to {high:g}: attenuation per mm or cm, or normalised?"
    else:
        tissue_low = _lowest_besides_padding(values, low)
        if tissue_low >= 0:
            suspect = f"nothing is below 0, they reach from {tissue_low:g} to {high:g}: {_scale_of(high)}?"
    if suspect:
        raise NotHounsfield("values are not HU", where=where, mend=f"{suspect}; give a CT in Hounsfield units")


def _lowest_besides_padding(values: NDArray[Any], low: float) -> float:
    if low >= _PADDING_BELOW_HU:
        return low
    rest = values[values > low]
    return float(rest.min()) if rest.size else low


def _scale_of(high: float) -> str:
    if high <= 255:
        return "8-bit grey values"
    return "unsigned 12 bit without its offset of -1024" if high <= 4095 else "unsigned 16 bit without its offset"
