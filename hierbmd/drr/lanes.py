"""Sixteen neighbouring rays at once: the inner loop of the CPU projector, written as vector code for LLVM.

numba's loops are not vectorised here, since a store to the sums might overlap a load of the volume. So the loop over
planes is built as LLVM vector instructions, which become those of whatever processor this runs on; nothing is asked of
the user's machine but numba. Loads are plain scalar pairs, not gathers: two voxels beside each other in memory come in
one 64-bit load, and neighbouring rays lie along that axis, so that most loads meet the same cache lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from hierbmd.drr.kernel_types import BLOCK, PAD, Field, Rays, compiled

LANES = 16

_AHEAD = 8
"""Planes between a voxel and the one asked for beforehand: a plane lies pages away, where no hardware looks ahead."""

_FLOAT, _INT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_PAIR = ir.VectorType(_FLOAT, 2)
_FUSE = ("contract", "nsz")


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _clamp(builder: Any, value: Any, high: Any) -> Any:
    """The vector between 0 and high: beyond the field, in the padding, where value and gradient are zero."""
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    value = builder.select(builder.fcmp_ordered(">", value, zero), value, zero)
    return builder.select(builder.fcmp_ordered("<", value, high), value, high)


def _cell(builder: Any, line: tuple[Any, Any], dm: Any, high: Any) -> tuple[Any, Any]:
    """The cell (whole numbers) that line = (place, slope) meets at distance dm from the anchor, and the fraction."""
    place = builder.fadd(line[0], builder.fmul(dm, line[1], flags=_FUSE), flags=_FUSE)
    place = _clamp(builder, place, high)
    cell = builder.fptosi(place, _INTS)
    return cell, builder.fsub(place, builder.sitofp(cell, _FLOATS))


def _load_pairs(builder: Any, base: Any, offsets: Any) -> tuple[Any, Any]:
    """The voxels at base + offsets (16 int32) and the ones right after, as two vectors."""
    parts = []
    for lane in range(LANES):
        offset = builder.sext(builder.extract_element(offsets, ir.Constant(_INT, lane)), _LONG)
        place = builder.bitcast(builder.gep(base, [offset]), _PAIR.as_pointer())
        parts.append(builder.load(place, align=4))
    width = 2
    while len(parts) > 1:
        both = ir.Constant(ir.VectorType(_INT, 2 * width), list(range(2 * width)))
        parts = [builder.shuffle_vector(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        width *= 2
    even, odd = (ir.Constant(_INTS, list(range(first, 2 * LANES, 2))) for first in (0, 1))
    return builder.shuffle_vector(parts[0], parts[0], even), builder.shuffle_vector(parts[0], parts[0], odd)


def _load(builder: Any, base: Any, offsets: Any) -> Any:
    """The voxels at base + offsets (16 int32)."""
    out = ir.Constant(_FLOATS, ir.Undefined)
    for lane in range(LANES):
        index = ir.Constant(_INT, lane)
        offset = builder.sext(builder.extract_element(offsets, index), _LONG)
        out = builder.insert_element(out, builder.load(builder.gep(base, [offset])), index)
    return out


def _prefetch(builder: Any, base: Any, offsets: Any, lanes: tuple[int, ...]) -> None:
    """Ask for the cache lines of some lanes' voxels at base + offsets."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
    ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for lane in lanes:
        offset = builder.sext(builder.extract_element(offsets, ir.Constant(_INT, lane)), _LONG)
        place = builder.bitcast(builder.gep(base, [offset]), byte)
        builder.call(ask, [place, ir.Constant(_INT, 0), ir.Constant(_INT, 3), ir.Constant(_INT, 1)])


def _between(builder: Any, low: Any, high: Any, fraction: Any) -> Any:
    """low + fraction * (high - low)."""
    step = builder.fsub(high, low, flags=_FUSE)
    return builder.fadd(low, builder.fmul(fraction, step, flags=_FUSE), flags=_FUSE)


def _plane(builder: Any, taps: tuple[Any, Any, Any, Any], fx: Any, fy: Any, gradient: bool) -> list[Any]:
    """The bilinear value of taps (00, 01, 10, 11; first x, then y) and, on request, its d/dx and d/dy."""
    v00, v01, v10, v11 = taps
    at0, at1 = _between(builder, v00, v01, fy), _between(builder, v10, v11, fy)
    dx = builder.fsub(at1, at0, flags=_FUSE)
    value = builder.fadd(at0, builder.fmul(fx, dx, flags=_FUSE), flags=_FUSE)
    if not gradient:
        return [value]
    dy0, dy1 = builder.fsub(v01, v00, flags=_FUSE), builder.fsub(v11, v10, flags=_FUSE)
    return [value, dx, _between(builder, dy0, dy1, fx)]


def _make_march(paired: bool, gradient: bool) -> Any:
    """The loop over planes, with neighbours in y one element apart (paired) or not, with derivatives or without."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, strides, limits, planes = arguments[3:]
        data = [make_array(signature.args[i])(context, builder, value=arguments[i]).data for i in range(3)]
        sx, sy, sc = (builder.extract_value(strides, i) for i in range(3))
        high = [_splat(builder, builder.extract_value(limits, i), _FLOATS) for i in range(2)]
        first_dm, count, tile_line = (builder.extract_value(planes, i) for i in range(3))
        line = [builder.load(_row(builder, data[1], tile_line, (4, i)), align=4) for i in range(4)]
        totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(5 if gradient else 1)]
        for i, total in enumerate(totals):
            builder.store(builder.load(_row(builder, data[2], tile_line, (5, i)), align=4), total)
        strides_x = _splat(builder, builder.trunc(sx, _INT), _INTS)
        strides_y = _splat(builder, builder.trunc(sy, _INT), _INTS)
        with cgutils.for_range(builder, count) as loop:
            dm = builder.sitofp(builder.add(first_dm, loop.index), _FLOAT)
            dm = _splat(builder, dm, _FLOATS)
            ix, fx = _cell(builder, (line[0], line[1]), dm, high[0])
            iy, fy = _cell(builder, (line[2], line[3]), dm, high[1])
            offsets = builder.add(builder.mul(ix, strides_x), iy if paired else builder.mul(iy, strides_y))
            base = builder.gep(data[0], [builder.add(start, builder.mul(loop.index, sc))])
            beside = builder.gep(base, [sx])
            if paired:
                taps = (*_load_pairs(builder, base, offsets), *_load_pairs(builder, beside, offsets))
            else:
                places = (base, builder.gep(base, [sy]), beside, builder.gep(beside, [sy]))
                taps = tuple(_load(builder, place, offsets) for place in places)
            ahead = builder.mul(sc, ir.Constant(_LONG, _AHEAD))
            _prefetch(builder, builder.gep(base, [ahead]), offsets, (0, LANES - 1))
            _prefetch(builder, builder.gep(beside, [ahead]), offsets, (0, LANES - 1))
            terms = _plane(builder, taps, fx, fy, gradient)
            terms += [builder.fmul(dm, term, flags=_FUSE) for term in terms[1:]]
            for total, term in zip(totals, terms, strict=True):
                builder.store(builder.fadd(builder.load(total), term, flags=_FUSE), total)
        for i, total in enumerate(totals):
            builder.store(builder.load(total), _row(builder, data[2], tile_line, (5, i)), align=4)
        return context.get_dummy_value()

    def typer(
        _typing: Any, values: Any, lines: Any, sums: Any, _start: Any, _strides: Any, _limits: Any, _planes: Any
    ) -> Any:
        longs, floats = types.UniTuple(types.int64, 3), types.UniTuple(types.float32, 2)
        return types.void(values, lines, sums, types.int64, longs, floats, longs), codegen

    return intrinsic(typer)


def _row(builder: Any, data: Any, tile_line: Any, row: tuple[int, int]) -> Any:
    """The place of row n of a tile's line in data (lines, rows, LANES); row = (rows, n)."""
    first = builder.mul(tile_line, ir.Constant(_LONG, row[0] * LANES))
    place = builder.gep(data, [builder.add(first, ir.Constant(_LONG, row[1] * LANES))])
    return builder.bitcast(place, _FLOATS.as_pointer())


_march_pairs = _make_march(True, False)
_march_pairs_gradient = _make_march(True, True)
_march_far = _make_march(False, False)
_march_far_gradient = _make_march(False, True)


@compiled
def march_lanes(field: Field, count: int, rays: Rays, gradient: bool) -> None:
    """Fill the sums of `count` lines of rays of one structure, except of rays that end inside the volume.

    A tile, LANES rays of each line, goes through the volume block by block of planes: what one line has read is still
    in the nearest cache when its neighbour reads it.
    """
    lines, sums = np.empty((count, 4, LANES), np.float32), np.empty((count, 5, LANES), np.float32)
    spans = np.empty((count, 4), np.int64)
    for c in range(3):
        for j in range(0, rays.axis.shape[1], LANES):
            low, high = _collect(rays, c, j, lines, spans)
            if low <= high:
                sums[:] = 0.0
                for block in range(low // BLOCK, high // BLOCK + 1):
                    for i in range(count):
                        _march_block(field, (c, block, i), spans, lines, sums, gradient)
                _spread(rays, c, j, sums)


@compiled
def _takes(rays: Rays, i: int, j: int, c: int) -> bool:
    """Whether a ray steps along c and crosses the volume from end to end."""
    planes = rays.planes[i, j]
    return rays.axis[i, j] == c and planes[0] <= planes[1] and planes[0] == planes[2] and planes[1] == planes[3]


@compiled
def _collect(rays: Rays, c: int, j: int, lines: Any, spans: Any) -> tuple[int, int]:
    """Fill the tile at ray j: lanes, and for each line its first and last plane, first and last lane with a ray.

    x is the lanes' first axis and y, where it can be, the one that is contiguous in memory. Lanes without a ray rest in
    the padding. Returns the tile's first and last plane.
    """
    x, y = (2, 0) if c == 1 else (0, 2)
    lines[:] = 0.0
    low, high = 1 << 40, -1
    for i in range(lines.shape[0]):
        first, last, first_lane, last_lane = 1 << 40, -1, -1, -1
        for lane in range(min(LANES, rays.axis.shape[1] - j)):
            if not _takes(rays, i, j + lane, c):
                continue
            line, planes = rays.line[i, j + lane], rays.planes[i, j + lane]
            lines[i, 0, lane], lines[i, 1, lane] = line[x] + PAD, line[x + 1]
            lines[i, 2, lane], lines[i, 3, lane] = line[y] + PAD, line[y + 1]
            first, last, last_lane = min(first, planes[0]), max(last, planes[1]), lane
            first_lane = lane if first_lane < 0 else first_lane
        spans[i, 0], spans[i, 1], spans[i, 2], spans[i, 3] = first, last, first_lane, last_lane
        low, high = min(low, first), max(high, last)
    return low, high


@compiled
def _spread(rays: Rays, c: int, j: int, sums: Any) -> None:
    """Hand the tile's sums to its rays, a before b."""
    a, b = (1, 0) if c == 1 else (0, 1)
    for i in range(sums.shape[0]):
        for lane in range(min(LANES, rays.axis.shape[1] - j)):
            if _takes(rays, i, j + lane, c):
                out = rays.sums[i, j + lane, 0]
                out[0], out[5], out[6] = sums[i, 0, lane], 0.0, 0.0
                out[1 + a], out[1 + b] = sums[i, 1, lane], sums[i, 2, lane]
                out[3 + a], out[3 + b] = sums[i, 3, lane], sums[i, 4, lane]


@compiled
def _march_block(field: Field, at: Any, spans: Any, lines: Any, sums: Any, gradient: bool) -> None:
    """March the lanes of line i along c through a block of planes, unless they come near nothing; at = (c, block, i).

    Whole arrays and places in them are handed on, not their parts: counting the references to parts would take longer
    than marching through them.
    """
    c, block, i = at
    anchor = field.shape[c] // 2
    first, last = max(spans[i, 0], block * BLOCK), min(spans[i, 1], block * BLOCK + BLOCK - 1)
    if first > last:
        return
    dm = (np.float32(first - anchor), np.float32(last - anchor))
    ends = (spans[i, 2], spans[i, 3])
    for axis in range(2):
        if not _meets(field.filled, (c, block, axis), (lines, i, ends), dm):
            return
    _march_planes(field, (c, i), (first, last), lines, sums, gradient)


@compiled
def _meets(filled: Any, at: Any, lanes: Any, dm: Any) -> bool:
    """Whether the lanes' footprint on axis x or y comes within one voxel of a block's filled rectangle.

    Neighbouring rays cross a plane in order along a line, and each ray is straight: the first and last ray in the first
    and last plane bound the footprint.
    """
    c, block, axis = at
    lines, i, ends = lanes
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for lane in ends:
        start, slope = lines[i, 2 * axis, lane], lines[i, 2 * axis + 1, lane]
        near, far = start + dm[0] * slope, start + dm[1] * slope
        low, high = min(low, near, far), max(high, near, far)
    bounds = 2 * (1 - axis) if c == 1 else 2 * axis
    slack = np.float32(1.01)
    return high >= filled[c, block, bounds] - slack and low <= filled[c, block, bounds + 1] + slack


@compiled
def _march_planes(field: Field, at: Any, planes: Any, lines: Any, sums: Any, gradient: bool) -> None:
    c, i = at
    a, b = ((c + 2) % 3, (c + 1) % 3) if c == 1 else ((c + 1) % 3, (c + 2) % 3)
    strides = (field.strides[a], field.strides[b], field.strides[c])
    start = field.origin - PAD * (strides[0] + strides[1]) + planes[0] * strides[2]
    limits = (np.float32(field.shape[a] + PAD), np.float32(field.shape[b] + PAD))
    steps = (planes[0] - field.shape[c] // 2, planes[1] - planes[0] + 1, i)
    if strides[1] == 1:
        if gradient:
            _march_pairs_gradient(field.values, lines, sums, start, strides, limits, steps)
        else:
            _march_pairs(field.values, lines, sums, start, strides, limits, steps)
    elif gradient:
        _march_far_gradient(field.values, lines, sums, start, strides, limits, steps)
    else:
        _march_far(field.values, lines, sums, start, strides, limits, steps)
