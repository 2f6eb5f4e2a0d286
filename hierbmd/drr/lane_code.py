"""The loop over planes for sixteen neighbouring rays, written as vector code for LLVM.

numba's loops are not vectorised here, since a store to the sums might overlap a load of the volume. So the loop is
built as LLVM vector instructions, which become those of whatever processor this runs on; nothing is asked of the user's
machine but numba. `tap_code` has the ways to read the volume.
"""

from __future__ import annotations

import itertools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from hierbmd.drr.tap_code import (
    FLOAT,
    FLOATS,
    FUSE,
    INT,
    INTS,
    LANES,
    LONG,
    Paired,
    Reader,
    Scattered,
    Tile,
    cell,
    constant,
    splat,
)
from hierbmd.drr.window_code import Windowed

TERMS = 5
"""Per lane: the sum; its d/dx, d/dy; those two times (m - anchor)."""

_BYTE = ir.IntType(8)


WINDOWED, PAIRED, SCATTERED = 1, 2, 3
"""How the volume is read."""

_READERS: dict[int, type[Reader]] = {WINDOWED: Windowed, PAIRED: Paired, SCATTERED: Scattered}


@intrinsic
def march_planes(
    _typing: Any, _how: Any, _addresses: Any, _start: Any, _strides: Any, _limits: Any, _steps: Any, _ends: Any
) -> Any:
    """march_planes(how, addresses, start, strides, limits, steps, ends): add planes of a tile's line to its sums.

    `how` is (reader, with derivatives, with labels). `addresses` (int64) are those of the field's values and labels, of
    the line's `lines` (4, TILE) float32 and `sums` (slots, 5, TILE) float32, of a flag for each slot, and of the slot
    that the line's last plane went to. Slots are labels; without labels there is one. `start` is the flat place of the
    first plane's voxel (0, 0) with its padding, `strides` (elements) are those of x, y and c, `limits` the highest x
    and y, `steps` the first plane from the anchor and how many, at most 16, `ends` the first and last lane with a ray.
    """
    longs = {count: types.UniTuple(types.int64, count) for count in (2, 3, 6)}
    limits = types.UniTuple(types.float32, 2)

    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        how, tile = [builder.extract_value(arguments[0], i) for i in range(3)], Tile(builder, arguments[1:])
        readers = [(number, reader) for number, reader in _READERS.items() if reader.exists(context)]
        for (number, reader), gradient, labelled in itertools.product(readers, (0, 1), (0, 1)):
            asked = ir.Constant(ir.IntType(1), 1)
            for given, wanted in zip(how, (number, gradient, labelled), strict=True):
                asked = builder.and_(asked, builder.icmp_signed("==", given, ir.Constant(LONG, wanted)))
            with builder.if_then(asked):
                _march(builder, reader, tile, bool(gradient), bool(labelled))
        return context.get_dummy_value()

    return types.void(longs[3], longs[6], types.int64, longs[3], limits, longs[2], longs[2]), codegen


def _march(builder: Any, reader: type[Reader], tile: Tile, gradient: bool, labelled: bool) -> None:
    taps = reader(builder, tile, labelled)
    sums = _Sums(builder, tile, TERMS if gradient else 1)
    line = [builder.load(tile.row(builder, i), align=4) for i in range(4)]
    with cgutils.for_range(builder, tile.count) as loop:
        dm = splat(builder, builder.sitofp(builder.add(tile.first_dm, loop.index), FLOAT), FLOATS)
        ix, fx = cell(builder, (line[0], line[1]), dm, tile.high[0])
        iy, fy = cell(builder, (line[2], line[3]), dm, tile.high[1])
        taps.go_to(builder, loop.index, ix, iy)
        values = taps.values(builder)
        at = (fx, fy, dm)
        mixed = taps.mixed(builder, builder.load(sums.slot)) if labelled else ir.Constant(ir.IntType(1), 0)
        with builder.if_else(mixed, likely=False) as (apart, together):
            with apart:
                if labelled:
                    _add_mixed(builder, sums, values, taps.labels(builder), at, gradient)
            with together:
                sums.add(builder, _terms(builder, values, at, gradient))
    sums.put(builder)


def _add_mixed(builder: Any, sums: _Sums, values: Any, labels: Any, at: Any, gradient: bool) -> None:
    """Add each label's taps to its own slot; the sums go on with the last."""
    sums.put(builder)
    left = [cgutils.alloca_once(builder, INTS) for _ in labels]
    for vector, place in zip(labels, left, strict=True):
        builder.store(vector, place)
    test, body, after = (builder.append_basic_block(name) for name in ("test", "body", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    label = _highest(builder, [builder.load(place) for place in left])
    builder.cbranch(builder.icmp_unsigned("!=", label, ir.Constant(INT, 0)), body, after)
    builder.position_at_end(body)
    own = []
    for value, place in zip(values, left, strict=True):
        vector = builder.load(place)
        mine = builder.icmp_unsigned("==", vector, splat(builder, label, INTS))
        own.append(builder.select(mine, value, constant(0.0)))
        builder.store(builder.select(mine, ir.Constant(INTS, [0] * LANES), vector), place)
    builder.store(label, sums.slot)
    sums.take(builder)
    sums.add(builder, _terms(builder, own, at, gradient))
    sums.put(builder)
    builder.branch(test)
    builder.position_at_end(after)


def _highest(builder: Any, vectors: list[Any]) -> Any:
    high = vectors[0]
    for vector in vectors[1:]:
        high = builder.select(builder.icmp_unsigned(">", vector, high), vector, high)
    kind = ir.FunctionType(INT, [INTS])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.umax.v16i32"), [high])


class _Sums:
    """The sums of one slot, in registers while the loop runs."""

    def __init__(self, builder: Any, tile: Tile, terms: int) -> None:
        self._tile, self._totals = tile, [cgutils.alloca_once(builder, FLOATS) for _ in range(terms)]
        self.slot = cgutils.alloca_once(builder, INT)
        builder.store(builder.load(tile.slot), self.slot)
        self.take(builder)

    def add(self, builder: Any, terms: list[Any]) -> None:
        """Add a plane's terms."""
        for total, term in zip(self._totals, terms, strict=True):
            builder.store(builder.fadd(builder.load(total), term, flags=FUSE), total)

    def take(self, builder: Any) -> None:
        """Go on with what the slot has so far."""
        for total, place in zip(self._totals, self._places(builder), strict=True):
            builder.store(builder.load(place, align=4), total)

    def put(self, builder: Any) -> None:
        """Keep what the slot has by now."""
        for total, place in zip(self._totals, self._places(builder), strict=True):
            builder.store(builder.load(total), place, align=4)
        slot = builder.load(self.slot)
        builder.store(ir.Constant(_BYTE, 1), builder.gep(self._tile.touched, [builder.zext(slot, LONG)]))
        builder.store(slot, self._tile.slot)

    def _places(self, builder: Any) -> list[Any]:
        first = builder.mul(builder.zext(builder.load(self.slot), LONG), ir.Constant(LONG, TERMS))
        rows = [builder.add(first, ir.Constant(LONG, i)) for i in range(len(self._totals))]
        return [builder.gep(self._tile.sums, [n]) for n in rows]


def _between(builder: Any, low: Any, high: Any, fraction: Any) -> Any:
    """low + fraction * (high - low)."""
    step = builder.fsub(high, low, flags=FUSE)
    return builder.fadd(low, builder.fmul(fraction, step, flags=FUSE), flags=FUSE)


def _terms(builder: Any, taps: Any, at: tuple[Any, Any, Any], gradient: bool) -> list[Any]:
    """The bilinear value of taps (00, 01, 10, 11; first x, then y), its derivatives if asked for; at = (fx, fy, dm)."""
    (v00, v01, v10, v11), (fx, fy, dm) = taps, at
    at0, at1 = _between(builder, v00, v01, fy), _between(builder, v10, v11, fy)
    dx = builder.fsub(at1, at0, flags=FUSE)
    value = builder.fadd(at0, builder.fmul(fx, dx, flags=FUSE), flags=FUSE)
    if not gradient:
        return [value]
    dy0, dy1 = builder.fsub(v01, v00, flags=FUSE), builder.fsub(v11, v10, flags=FUSE)
    dy = _between(builder, dy0, dy1, fx)
    return [value, dx, dy, builder.fmul(dm, dx, flags=FUSE), builder.fmul(dm, dy, flags=FUSE)]
