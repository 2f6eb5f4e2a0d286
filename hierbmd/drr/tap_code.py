"""How sixteen neighbouring rays read the voxels around them, as vector code for LLVM."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from hierbmd.drr.kernel_types import TILE

LANES = TILE

FLOAT, INT, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
FUSE = ("contract", "nsz")

_BYTE = ir.IntType(8)
_BYTES = ir.VectorType(_BYTE, LANES)
_AHEAD = 8
"""Planes between a voxel and the one asked for beforehand: a plane lies pages away, where no hardware looks ahead."""


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """The vector with a value in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, one, ir.Constant(INTS, [0] * LANES))


def constant(value: float) -> Any:
    """The float vector with a constant in every lane."""
    return ir.Constant(FLOATS, [value] * LANES)


def clamp(builder: Any, value: Any, high: Any) -> Any:
    """The vector between 0 and high."""
    value = builder.select(builder.fcmp_ordered(">", value, constant(0.0)), value, constant(0.0))
    return builder.select(builder.fcmp_ordered("<", value, high), value, high)


def cell(builder: Any, line: tuple[Any, Any], dm: Any, high: Any) -> tuple[Any, Any]:
    """The cell (whole numbers) that line = (place, slope) meets at distance dm from the anchor, and the fraction.

    Beyond the field it is one in the padding, where value and gradient are zero.
    """
    place = builder.fadd(line[0], builder.fmul(dm, line[1], flags=FUSE), flags=FUSE)
    place = clamp(builder, place, high)
    whole = builder.fptosi(place, INTS)
    return whole, builder.fsub(place, builder.sitofp(whole, FLOATS))


def prefetch(builder: Any, place: Any) -> None:
    """Ask for the cache line at a place."""
    byte = _BYTE.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, INT, INT, INT])
    ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(ask, [builder.bitcast(place, byte), ir.Constant(INT, 0), ir.Constant(INT, 3), ir.Constant(INT, 1)])


class Tile:
    """The arguments of a march (`lane_code.make_march`), unpacked."""

    def __init__(self, builder: Any, arguments: Any) -> None:
        addresses, start, strides, limits, steps, ends = arguments
        kinds = (FLOAT, _BYTE, FLOATS, FLOATS, _BYTE, INT)
        pointers = [
            builder.inttoptr(builder.extract_value(addresses, i), kind.as_pointer()) for i, kind in enumerate(kinds)
        ]
        values, labels, self._lines, self.sums, self.touched, self.slot = pointers
        self.values, self.labels = builder.gep(values, [start]), builder.gep(labels, [start])
        self.sx, self.sy, self.sc = (builder.extract_value(strides, i) for i in range(3))
        self.high = [splat(builder, builder.extract_value(limits, i), FLOATS) for i in range(2)]
        self.first_dm, self.count = (builder.extract_value(steps, i) for i in range(2))
        self.ends = [builder.extract_value(ends, i) for i in range(2)]

    def row(self, builder: Any, n: int) -> Any:
        """The place of one of the line's four rows: x0, bx, y0, by."""
        return builder.gep(self._lines, [ir.Constant(LONG, n)])

    def at_ends(self, builder: Any, n: int) -> list[Any]:
        """A row's numbers of the first and of the last lane with a ray, in every lane."""
        first = builder.bitcast(self.row(builder, n), FLOAT.as_pointer())
        return [splat(builder, builder.load(builder.gep(first, [end])), FLOATS) for end in self.ends]


class Reader:
    """The four taps of a plane: 00, 01, 10, 11; first x, then y."""

    def __init__(self, builder: Any, tile: Tile, labelled: bool) -> None:
        self._tile, self._labelled = tile, labelled

    @staticmethod
    def exists(_context: Any) -> bool:
        """Whether the processor that is compiled for can do this."""
        return True

    def go_to(self, builder: Any, index: Any, ix: Any, iy: Any) -> None:
        """Look at the cells ix, iy (16 int32) of a plane, counted from the first."""
        raise NotImplementedError

    def values(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' values, four vectors."""
        raise NotImplementedError

    def labels(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' labels, four int32 vectors."""
        raise NotImplementedError

    def mixed(self, builder: Any, slot: Any) -> Any:
        """Whether any tap may have a label that is neither zero nor `slot`."""
        raise NotImplementedError


class Scattered(Reader):
    """Voxel by voxel, wherever each ray is: for every processor and any rays."""

    def go_to(self, builder: Any, index: Any, ix: Any, iy: Any) -> None:
        """Look at the cells ix, iy (16 int32) of a plane, counted from the first."""
        tile = self._tile
        sx, sy = (splat(builder, builder.trunc(stride, INT), INTS) for stride in (tile.sx, tile.sy))
        offsets = builder.add(builder.mul(ix, sx), builder.mul(iy, sy))
        plane = builder.mul(index, tile.sc)
        self._at = []
        for lane in range(LANES):
            offset = builder.sext(builder.extract_element(offsets, ir.Constant(INT, lane)), LONG)
            self._at.append(builder.add(plane, offset))
        ahead = builder.mul(tile.sc, ir.Constant(LONG, _AHEAD))
        for lane in (0, LANES - 1):
            place = builder.gep(tile.values, [builder.add(self._at[lane], ahead)])
            prefetch(builder, place)
            prefetch(builder, builder.gep(place, [tile.sx]))
        if self._labelled:
            self._names = self._read_labels(builder)

    def values(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' values, four vectors."""
        return self._load(builder, self._tile.values, FLOATS)

    def labels(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' labels, four int32 vectors."""
        v00, v01, v10, v11 = (builder.zext(names, INTS) for names in self._names)
        return v00, v01, v10, v11

    def mixed(self, builder: Any, slot: Any) -> Any:
        """Whether any tap has a label that is neither zero nor `slot`."""
        here = splat(builder, builder.trunc(slot, _BYTE), _BYTES)
        zero = ir.Constant(_BYTES, [0] * LANES)
        other = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [0] * LANES)
        for names in self._names:
            apart = builder.and_(builder.icmp_unsigned("!=", names, here), builder.icmp_unsigned("!=", names, zero))
            other = builder.or_(other, apart)
        return builder.icmp_unsigned("!=", builder.bitcast(other, ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))

    def _read_labels(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        return self._load(builder, self._tile.labels, _BYTES)

    def _load(self, builder: Any, array: Any, kind: Any) -> tuple[Any, Any, Any, Any]:
        tile = self._tile
        beside = builder.gep(array, [tile.sx])
        places = (array, builder.gep(array, [tile.sy]), beside, builder.gep(beside, [tile.sy]))
        v00, v01, v10, v11 = (self._gather(builder, place, kind) for place in places)
        return v00, v01, v10, v11

    def _gather(self, builder: Any, base: Any, kind: Any) -> Any:
        out = ir.Constant(kind, ir.Undefined)
        for lane, offset in enumerate(self._at):
            out = builder.insert_element(out, builder.load(builder.gep(base, [offset])), ir.Constant(INT, lane))
        return out


class Paired(Scattered):
    """As `Scattered` where neighbours in y are neighbours in memory: two voxels come in one 64-bit load."""

    def values(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' values, four vectors."""
        beside = builder.gep(self._tile.values, [self._tile.sx])
        return *self._pairs(builder, self._tile.values), *self._pairs(builder, beside)

    def _read_labels(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        beside = builder.gep(self._tile.labels, [self._tile.sx])
        return *self._label_pairs(builder, self._tile.labels), *self._label_pairs(builder, beside)

    def _label_pairs(self, builder: Any, base: Any) -> tuple[Any, Any]:
        """The labels at base and the lanes' places, and the ones right after."""
        pair = ir.IntType(16)
        out = ir.Constant(ir.VectorType(pair, LANES), ir.Undefined)
        for lane, at in enumerate(self._at):
            place = builder.bitcast(builder.gep(base, [at]), pair.as_pointer())
            out = builder.insert_element(out, builder.load(place, align=1), ir.Constant(INT, lane))
        low = builder.trunc(out, _BYTES)
        return low, builder.trunc(builder.lshr(out, ir.Constant(out.type, [8] * LANES)), _BYTES)

    def _pairs(self, builder: Any, base: Any) -> tuple[Any, Any]:
        """The voxels at base and the lanes' places, and the ones right after."""
        pair = ir.VectorType(FLOAT, 2).as_pointer()
        parts = [builder.load(builder.bitcast(builder.gep(base, [at]), pair), align=4) for at in self._at]
        width = 2
        while len(parts) > 1:
            both = ir.Constant(ir.VectorType(INT, 2 * width), list(range(2 * width)))
            parts = [builder.shuffle_vector(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            width *= 2
        even, odd = (ir.Constant(INTS, list(range(first, 2 * LANES, 2))) for first in (0, 1))
        return builder.shuffle_vector(parts[0], parts[0], even), builder.shuffle_vector(parts[0], parts[0], odd)
