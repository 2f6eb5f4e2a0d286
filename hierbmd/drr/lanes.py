"""Sixteen neighbouring rays at once: the rays of one structure that cross the volume from end to end."""

from __future__ import annotations

from typing import Any

import numpy as np

from hierbmd.drr.kernel_types import BEYOND, BLOCK, CELL, GROUP, MIXED, PAD, TILE, Field, Rays
from hierbmd.drr.lane_code import PAIRED, SCATTERED, TERMS, WINDOWED, march_planes
from hierbmd.drr.window_code import FARTHEST_X, FARTHEST_Y, has_windows
from hierbmd.kernels import compiled

_BYTES = 4
_SLACK = np.float32(0.01)
"""Voxels by which rounding may move a ray."""


@compiled
def march_lanes(field: Field, count: int, rays: Rays, gradient: bool) -> None:
    """Fill the sums of `count` lines of rays, except of rays that end inside the volume.

    A tile, TILE rays of each line, goes through the volume block by block of planes: what one line has read is still
    in the nearest cache when its neighbour reads it.
    """
    labelled = field.labels.size > BEYOND
    slots = 1 + (rays.met.shape[1] if labelled else 0)
    lines, spans = np.empty((count, 4, TILE), np.float32), np.empty((count, 4), np.int64)
    sums, touched = np.zeros((count, slots, TERMS, TILE), np.float32), np.zeros((count, slots), np.uint8)
    slot, ways = np.zeros(count, np.int32), np.empty((count, field.filled.shape[1]), np.uint8)
    only = np.zeros((count, field.filled.shape[1]), np.uint8)
    for c in range(3):
        x, y = (0, 2) if c == 1 else ((c + 1) % 3, (c + 2) % 3)
        strides, anchor = (field.strides[x], field.strides[y], field.strides[c]), field.shape[c] // 2
        limits = (np.float32(field.shape[x] + PAD), np.float32(field.shape[y] + PAD))
        corner = field.origin - PAD * (strides[0] + strides[1])
        for j in range(0, rays.axis.shape[1], TILE):
            low, high = _collect(rays, c, j, lines, spans)
            if low <= high:
                _plan(field, c, lines, spans, ways, only)
                for block in range(low // BLOCK, high // BLOCK + 1):
                    for i in range(count):
                        if ways[i, block] == 0:
                            continue
                        # Addresses and numbers are handed on, not arrays: counting references takes longer.
                        addresses = (
                            field.values.ctypes.data,
                            field.labels.ctypes.data,
                            lines.ctypes.data + i * 4 * TILE * _BYTES,
                            sums.ctypes.data + i * slots * TERMS * TILE * _BYTES,
                            touched.ctypes.data + i * slots,
                            slot.ctypes.data + i * _BYTES,
                        )
                        first, last = max(spans[i, 0], block * BLOCK), min(spans[i, 1], block * BLOCK + BLOCK - 1)
                        apart = labelled and only[i, block] == MIXED
                        if labelled and not apart:
                            slot[i] = only[i, block]
                        how, steps = (ways[i, block], gradient, apart), (first - anchor, last - first + 1)
                        start, ends = corner + first * strides[2], (spans[i, 2], spans[i, 3])
                        march_planes(how, addresses, start, strides, limits, steps, ends)  # type: ignore[call-arg]
                _spread(rays, c, j, sums, touched)


@compiled
def _plan(field: Field, c: int, lines: Any, spans: Any, ways: Any, only: Any) -> None:
    """How each line of a tile goes through each block of planes along c: 0 where it comes near nothing.

    With labels, `only` is the one that a line can meet there, or MIXED.
    """
    anchor, contiguous, labelled = field.shape[c] // 2, c != 2, field.names.size > 0
    ways[:] = 0
    for i in range(lines.shape[0]):
        for block in range(spans[i, 0] // BLOCK, spans[i, 1] // BLOCK + 1):
            first, last = max(spans[i, 0], block * BLOCK), min(spans[i, 1], block * BLOCK + BLOCK - 1)
            dm = np.float32(first - anchor), np.float32(last - anchor)
            p, q = spans[i, 2], spans[i, 3]
            x = _reach((lines[i, 0, p], lines[i, 1, p]), (lines[i, 0, q], lines[i, 1, q]), dm)
            y = _reach((lines[i, 2, p], lines[i, 3, p]), (lines[i, 2, q], lines[i, 3, q]), dm)
            met = _met(field, (c, block), x, y)
            if labelled and met:
                only[i, block] = _only(field, (c, block), x, y)
                met = only[i, block] > 0
            if met:
                fits: bool = has_windows() and x[2] < FARTHEST_X and y[2] < FARTHEST_Y  # type: ignore[call-arg]
                ways[i, block] = (WINDOWED if fits else PAIRED) if contiguous else SCATTERED


@compiled
def _met(field: Field, at: Any, x: Any, y: Any) -> bool:
    """Whether taps from x[0] to x[1], y[0] to y[1] may be filled voxels of at = (c, block)."""
    for group in range(
        _part(x[0] - _SLACK, GROUP), min(field.filled.shape[2] - 1, _part(x[1] + 1 + _SLACK, GROUP)) + 1
    ):
        filled = field.filled[at[0], at[1], group, 0], field.filled[at[0], at[1], group, 1]
        if y[1] >= filled[0] - 1 - _SLACK and y[0] <= filled[1] + 1 + _SLACK:
            return True
    return False


@compiled
def _only(field: Field, at: Any, x: Any, y: Any) -> int:
    """The label of the taps from x[0] to x[1], y[0] to y[1] in at = (c, block): 0 for none, MIXED for several."""
    found, names = 0, field.names
    first, last = _part(y[0] - _SLACK, CELL), min(names.shape[3] - 1, _part(y[1] + 1 + _SLACK, CELL))
    for group in range(_part(x[0] - _SLACK, GROUP), min(names.shape[2] - 1, _part(x[1] + 1 + _SLACK, GROUP)) + 1):
        for cell in range(first, last + 1):
            name = names[at[0], at[1], group, cell]
            if name > 0 and found > 0 and name != found:
                return MIXED
            found = max(found, int(name))
    return found


@compiled
def _part(place: Any, step: int) -> int:
    """In which stretch of so many voxels a place is."""
    return int(max(np.float32(0), place)) // step


@compiled
def _reach(one: Any, other: Any, dm: Any) -> Any:
    """The lowest and highest place of a tile's line on an axis between two planes, and how far apart its lanes get.

    Neighbouring rays cross a plane in order along a line, and each ray is straight: the first and last ray in the first
    and last plane bound the rest.
    """
    a, b = one[0] + dm[0] * one[1], one[0] + dm[1] * one[1]
    p, q = other[0] + dm[0] * other[1], other[0] + dm[1] * other[1]
    return min(a, b, p, q), max(a, b, p, q), max(abs(a - p), abs(b - q))


@compiled
def _takes(rays: Rays, i: int, j: int, c: int) -> bool:
    """Whether a ray steps along c and crosses the volume from end to end."""
    first, last = rays.planes[i, j, 0], rays.planes[i, j, 1]
    whole = first == rays.planes[i, j, 2] and last == rays.planes[i, j, 3]
    return rays.axis[i, j] == c and first <= last and whole


@compiled
def _collect(rays: Rays, c: int, j: int, lines: Any, spans: Any) -> tuple[int, int]:
    """Fill the tile at ray j: lanes, and for each line its first and last plane, first and last lane with a ray.

    x is the lanes' first axis and y, where it can be, the one that is contiguous in memory. Lanes without a ray go
    along with one that has. Returns the tile's first and last plane.
    """
    x, y = (2, 0) if c == 1 else (0, 2)
    low, high = 1 << 40, -1
    for i in range(lines.shape[0]):
        first, last, first_lane, last_lane, taken = 1 << 40, -1, -1, -1, 0
        for lane in range(min(TILE, rays.axis.shape[1] - j)):
            if _takes(rays, i, j + lane, c):
                lines[i, 0, lane], lines[i, 1, lane] = rays.line[i, j + lane, x] + PAD, rays.line[i, j + lane, x + 1]
                lines[i, 2, lane], lines[i, 3, lane] = rays.line[i, j + lane, y] + PAD, rays.line[i, j + lane, y + 1]
                first, last = min(first, rays.planes[i, j + lane, 0]), max(last, rays.planes[i, j + lane, 1])
                first_lane, last_lane, taken = lane if first_lane < 0 else first_lane, lane, taken + 1
        spans[i, 0], spans[i, 1], spans[i, 2], spans[i, 3] = first, last, first_lane, last_lane
        low, high = min(low, first), max(high, last)
        if 0 < taken < TILE:
            for lane in range(TILE):
                if lane < first_lane or lane > last_lane or not _takes(rays, i, j + lane, c):
                    for k in range(4):
                        lines[i, k, lane] = lines[i, k, first_lane if lane < first_lane else last_lane]
    return low, high


@compiled
def _spread(rays: Rays, c: int, j: int, sums: Any, touched: Any) -> None:
    """Hand the tile's sums to its rays, a before b, and clear them."""
    slots = sums.shape[1]
    for i in range(sums.shape[0]):
        for slot in range(slots):
            if touched[i, slot] == 0:
                continue
            touched[i, slot] = 0
            # Without labels there is one slot; with labels slot 0 is the background's.
            channel = slot - 1 if slots > 1 else 0
            for k in range(TERMS):
                # On axis 1, x and y are b and a.
                row = (0, 2, 1, 4, 3)[k] if c == 1 else k
                for lane in range(min(TILE, rays.axis.shape[1] - j)):
                    if channel >= 0 and _takes(rays, i, j + lane, c):
                        rays.met[i, channel, j // TILE] = 1
                        rays.sums[i, channel, row, j + lane] = sums[i, slot, k, lane]
                for lane in range(TILE):
                    sums[i, slot, k, lane] = 0.0
