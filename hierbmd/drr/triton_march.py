"""Joseph's method on a GPU, second: from a tile of rays to the sums that `triton_kernel` makes pixels of.

The method and its notation are those of `kernel_types`: c is the axis that a ray steps along, a and b the next two in
cyclic order, x and y the places on them, and in plane m of c, x = x0 + (m - anchor) * bx. The five running sums are
the field, its d/dx and d/dy, and those two times (m - anchor): image and derivative need one walk and store no sample.

A program holds R rays and K planes at a time, (K, R): neighbours in a warp are neighbouring rays in the same plane,
and each thread has the loads of several planes under way at once. Places are clamped to the zeros that pad the volume,
so that no sample asks whether it is inside. Planes come in slabs: a slab that the tile meets nothing in is skipped.

Structures share one walk: a voxel's label is in the lowest bits of its float (`triton_field`), so that four loads bring
four values and four labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

PAD = tl.constexpr(2)
"""Zero voxels around the volume: a clamped place is between two of them."""

SLAB = tl.constexpr(32)
"""Planes that are skipped together."""

UNROLL = tl.constexpr(2)
"""Steps of K planes whose loads are under way together."""

SHIFT = tl.constexpr(1.5)
"""From a voxel's index to the place stored for a ray: + PAD, and - 0.5 so that rounding to the nearest is the floor."""

_ROUND = tl.constexpr(12582912.0)
_ROUND_BITS = tl.constexpr(0x4B400000)
_FAR = tl.constexpr(1e9)


class Field(NamedTuple):
    """The padded volume on the device, as the kernels take it.

    `words` is flat: float32 or, with labels, int32 holding both. `filled` (groups, 3, slabs, 4) float32 says where each
    slab of each axis is not zero: lowest and highest x, lowest and highest y, shifted and widened by a tap.
    `index_from_world` holds the rows of the 3x4, float64. n0, n1, n2 is the shape without padding; s0 and s1 are the
    strides (elements) with it, and s2 is 1. `apart` (elements) is from one structure's volume to the next, 0 for one.
    """

    words: Any
    filled: Any
    index_from_world: Any
    n0: int
    n1: int
    n2: int
    s0: int
    s1: int
    slabs: int
    apart: int


@triton.jit
def march(
    field: tl.tuple,
    rays: tl.tuple,
    axis: tl.tensor,
    group: tl.tensor,
    GRADIENT: tl.constexpr,
    GROUP: tl.constexpr,
    LABEL_BITS: tl.constexpr,
    K: tl.constexpr,
) -> tl.tuple:
    """The sums of a tile: for each structure of the group 1 or, with GRADIENT, 5 of shape (K, R), one after the other.

    `rays` holds x0, bx, y0, by and the lower and upper end less the anchor, (R,) each; `axis` (R,) is c, or 3 where
    there is no pixel. GROUP is the number of structures, LABEL_BITS that of the bits of a label, 0 without labels.
    """
    sums = ()
    for _ in tl.static_range((5 if GRADIENT else 1) * GROUP):
        sums = sums + (tl.zeros((K, axis.shape[0]), tl.float32),)
    for c in range(3):
        mine = axis == c
        if tl.max(mine.to(tl.int32), axis=0) > 0:
            sums = _march_along(field, _only(rays, mine), mine, c, group, sums, GRADIENT, GROUP, LABEL_BITS, K)
    return sums


@triton.jit
def _only(rays: tl.tuple, mine: tl.tensor) -> tl.tuple:
    """The rays that are mine; the others are put where the volume is zero."""
    x0, bx, y0, by, lower, upper = rays
    still = tl.where(mine, 1.0, 0.0)
    return tl.where(mine, x0, -_FAR), bx * still, tl.where(mine, y0, -_FAR), by * still, lower, upper


@triton.jit
def along(field: tl.tuple, axis: tl.tensor) -> tl.tuple:
    """Of an axis c: its number of planes and its stride, then both for the next axis and for the one after that."""
    zero, one = axis == 0, axis == 1
    n_c, n_a, n_b = (
        tl.where(zero, field.n0, tl.where(one, field.n1, field.n2)),
        tl.where(zero, field.n1, tl.where(one, field.n2, field.n0)),
        tl.where(zero, field.n2, tl.where(one, field.n0, field.n1)),
    )
    s_c, s_a, s_b = (
        tl.where(zero, field.s0, tl.where(one, field.s1, 1)),
        tl.where(zero, field.s1, tl.where(one, 1, field.s0)),
        tl.where(zero, 1, tl.where(one, field.s0, field.s1)),
    )
    return n_c, s_c, n_a, s_a, n_b, s_b


@triton.jit
def _march_along(
    field: tl.tuple,
    rays: tl.tuple,
    mine: tl.tensor,
    c: tl.tensor,
    group: tl.tensor,
    sums: tl.tuple,
    GRADIENT: tl.constexpr,
    GROUP: tl.constexpr,
    LABEL_BITS: tl.constexpr,
    K: tl.constexpr,
) -> tl.tuple:
    """Add the planes of axis c to the sums of the rays that step along it."""
    lattice = along(field, c)
    count = lattice[0]
    anchor = count // 2
    x0, bx, y0, by, lower, upper = rays
    x_range, y_range = _range(x0, bx, mine), _range(y0, by, mine)
    begin, all_begun = _least(lower, mine), _most(lower, mine)
    all_last, end = _least(upper, mine), _most(upper, mine)
    filled = field.filled + (group * 3 + c) * field.slabs * 4
    for slab in range(tl.cdiv(count, SLAB)):
        first = slab * SLAB - anchor
        last = tl.minimum(first + SLAB, count - anchor) - 1
        meets = _overlap(x_range, first, last, filled + slab * 4) & _overlap(
            y_range, first, last, filled + slab * 4 + 2
        )
        if meets & (begin < last + 1) & (end > first - 1):
            if (all_begun <= first - 1) & (all_last >= last + 1):
                for step in range(SLAB // (UNROLL * K)):
                    for k in tl.static_range(UNROLL):
                        plane = slab * SLAB + (step * UNROLL + k) * K
                        sums = _add_planes(
                            field, lattice, rays, plane, sums, group, GRADIENT, GROUP, LABEL_BITS, K, False
                        )
            else:
                for step in range(SLAB // K):
                    plane = slab * SLAB + step * K
                    sums = _add_planes(field, lattice, rays, plane, sums, group, GRADIENT, GROUP, LABEL_BITS, K, True)
    return sums


@triton.jit
def _least(values: tl.tensor, mine: tl.tensor) -> tl.tensor:
    return tl.min(tl.where(mine, values, _FAR), axis=0)


@triton.jit
def _most(values: tl.tensor, mine: tl.tensor) -> tl.tensor:
    return tl.max(tl.where(mine, values, -_FAR), axis=0)


@triton.jit
def _range(start: tl.tensor, slope: tl.tensor, mine: tl.tensor) -> tl.tuple:
    """The least and largest start and slope of the rays that are mine."""
    return _least(start, mine), _most(start, mine), _least(slope, mine), _most(slope, mine)


@triton.jit
def _overlap(line: tl.tuple, first: tl.tensor, last: tl.tensor, filled: tl.tensor) -> tl.tensor:
    """Whether rays that start and climb within these bounds come between the two places at `filled`."""
    low, high, flat, steep = line
    rise = tl.maximum(tl.maximum(first * flat, first * steep), tl.maximum(last * flat, last * steep))
    fall = tl.minimum(tl.minimum(first * flat, first * steep), tl.minimum(last * flat, last * steep))
    return (high + rise > tl.load(filled)) & (low + fall < tl.load(filled + 1))


@triton.jit
def _add_planes(
    field: tl.tuple,
    lattice: tl.tuple,
    rays: tl.tuple,
    first: tl.tensor,
    sums: tl.tuple,
    group: tl.tensor,
    GRADIENT: tl.constexpr,
    GROUP: tl.constexpr,
    LABEL_BITS: tl.constexpr,
    K: tl.constexpr,
    ENDS: tl.constexpr,
) -> tl.tuple:
    """Add K planes; with ENDS each by the weight that it has for rays that start or end near it."""
    x0, bx, y0, by, lower, upper = rays
    count, stride = lattice[0], lattice[1]
    plane = first + tl.arange(0, K)[:, None]
    dm = (plane - count // 2).to(tl.float32)
    x, y = x0[None, :] + dm * bx[None, :], y0[None, :] + dm * by[None, :]
    words, fx, fy = taps(field, lattice, group, x, y, tl.minimum(plane, count) * stride)
    weight = 1.0
    if ENDS:
        weight = _hat_integral(upper[None, :] - dm) - _hat_integral(lower[None, :] - dm)
    return _add(sums, words, fx, fy, dm, weight, group, GRADIENT, GROUP, LABEL_BITS, ENDS)


@triton.jit
def taps(
    field: tl.tuple, lattice: tl.tuple, group: tl.tensor, x: tl.tensor, y: tl.tensor, plane: tl.tensor
) -> tl.tuple:
    """The four words around shifted places (x, y) of the planes that start at `plane`, and the fractions of x and y."""
    _, stride, nx, sx, ny, sy = lattice
    x, y = tl.minimum(tl.maximum(x, 0.0), nx + 2.0), tl.minimum(tl.maximum(y, 0.0), ny + 2.0)
    # Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: no conversion, which has few units.
    rounded_x, rounded_y = x + _ROUND, y + _ROUND
    ix = rounded_x.to(tl.int32, bitcast=True) - _ROUND_BITS
    iy = rounded_y.to(tl.int32, bitcast=True) - _ROUND_BITS
    words = field.words + tl.cast(group, tl.int64) * field.apart
    at = words + (ix * sx + iy * sy + (plane + PAD * stride))
    around = (tl.load(at), tl.load(at + sx), tl.load(at + sy), tl.load(at + (sx + sy)))
    return around, x - (rounded_x - _ROUND) + 0.5, y - (rounded_y - _ROUND) + 0.5


@triton.jit
def _hat_integral(u: tl.tensor) -> tl.tensor:
    """The integral of the unit hat from minus infinity to u: the weight of a plane in a ray that ends there."""
    inside = tl.minimum(tl.maximum(u, -1.0), 1.0)
    rest = 1.0 - tl.abs(inside)
    return tl.where(inside < 0.0, 0.5 * rest * rest, 1.0 - 0.5 * rest * rest)


@triton.jit
def value_of(word: tl.tensor, structure: tl.tensor, LABEL_BITS: tl.constexpr) -> tl.tensor:
    """The value of a word; where there are labels only if it is the structure's, else zero."""
    if LABEL_BITS > 0:
        value = (word & -(1 << LABEL_BITS)).to(tl.float32, bitcast=True)
        return tl.where((word & ((1 << LABEL_BITS) - 1)) == structure + 1, value, 0.0)
    else:
        return word


@triton.jit
def _add(
    sums: tl.tuple,
    words: tl.tuple,
    fx: tl.tensor,
    fy: tl.tensor,
    dm: tl.tensor,
    weight: tl.tensor,
    group: tl.tensor,
    GRADIENT: tl.constexpr,
    GROUP: tl.constexpr,
    LABEL_BITS: tl.constexpr,
    ENDS: tl.constexpr,
) -> tl.tuple:
    """Add K planes of the bilinear field, and of its slopes, to the sums of each structure of the group."""
    out = ()
    for i in tl.static_range(GROUP):
        structure = group * GROUP + i
        v00, v10 = value_of(words[0], structure, LABEL_BITS), value_of(words[1], structure, LABEL_BITS)
        v01, v11 = value_of(words[2], structure, LABEL_BITS), value_of(words[3], structure, LABEL_BITS)
        slope_low, slope_high = v10 - v00, v11 - v01
        low = v00 + fx * slope_low
        dy = (v01 + fx * slope_high) - low
        value = low + fy * dy
        if ENDS:
            value = value * weight
        if GRADIENT:
            dx = slope_low + fy * (slope_high - slope_low)
            if ENDS:
                dx, dy = dx * weight, dy * weight
            out = out + (sums[5 * i] + value, sums[5 * i + 1] + dx, sums[5 * i + 2] + dy)
            out = out + (sums[5 * i + 3] + dm * dx, sums[5 * i + 4] + dm * dy)
        else:
            out = out + (sums[i] + value,)
    return out
