"""How sixteen neighbouring rays read a window of the volume with the permutes of AVX-512.

Where sixteen rays meet a plane within some thirty voxels of three rows, these rows are read as they lie in memory, 32
voxels each, and each ray's taps are picked out of the registers: six loads where there are 32 without.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from hierbmd.drr.tap_code import FLOATS, INT, INTS, LANES, LONG, Reader, Tile, clamp, constant, prefetch, splat

WINDOW = 2 * LANES
"""Voxels of a row that two registers hold: those that a window reads, past the volume's end, too."""

ROWS = 3

MARGIN = 1 / 64
"""Voxels by which a window begins before its first ray, since that is rounded apart from the rays."""

FARTHEST_X, FARTHEST_Y = 1 - 3 * MARGIN, WINDOW - 3 - 3 * MARGIN
"""How many voxels the first and last ray may be apart in a plane, less than: two rows of cells, a window's columns."""

_AHEAD = 8
_BYTE = ir.IntType(8)
_BYTES = ir.VectorType(_BYTE, WINDOW)


@intrinsic
def has_windows(_typing: Any) -> Any:
    """Whether `Windowed` exists on the processor that is compiled for: numba's, NUMBA_CPU_NAME or _FEATURES."""

    def codegen(context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return context.get_constant(types.boolean, Windowed.exists(context))

    return types.boolean(), codegen


class Windowed(Reader):
    """Row by row of a window: for rays of which the first and last lane are at most so far apart in a plane."""

    def __init__(self, builder: Any, tile: Tile, labelled: bool) -> None:
        super().__init__(builder, tile, labelled)
        ramp = ir.Constant(INTS, list(range(LANES)))
        dm = builder.add(splat(builder, builder.trunc(tile.first_dm, INT), INTS), ramp)
        dm = builder.sitofp(dm, FLOATS)
        cx, _ = self._bounds(builder, 0, dm, builder.fsub(tile.high[0], constant(1.0)))
        cy, last = self._bounds(builder, 2, dm, tile.high[1])
        # Of a row, one bit for each voxel that a ray may meet: from the corner to the one after the last.
        bits = builder.lshr(_ints(-1), builder.sub(_ints(WINDOW - 2), builder.sub(last, cy)))
        sx, sc = (splat(builder, builder.trunc(stride, INT), INTS) for stride in (tile.sx, tile.sc))
        start = builder.add(builder.add(builder.mul(cx, sx), cy), builder.mul(ramp, sc))
        self._corners = [_kept(builder, vector) for vector in (cx, cy, start, bits)]

    @staticmethod
    def exists(context: Any) -> bool:
        """Whether the processor that is compiled for has AVX-512."""
        return "+avx512f" in context.codegen().magic_tuple()[2].split(",")

    def go_to(self, builder: Any, index: Any, ix: Any, iy: Any) -> None:
        """Look at the cells ix, iy (16 int32) of a plane, counted from the first."""
        cx, cy, start, self._bits = (builder.load(builder.gep(place, [index])) for place in self._corners)
        self._start = builder.sext(start, LONG)
        self._place = builder.sub(iy, splat(builder, cy, INTS))
        self._second = builder.icmp_signed("!=", ix, splat(builder, cx, INTS))
        tile = self._tile
        ahead = builder.add(self._start, builder.mul(tile.sc, ir.Constant(LONG, _AHEAD)))
        for _ in range(ROWS):
            for voxel in (0, LANES + 2):
                prefetch(builder, builder.gep(tile.values, [builder.add(ahead, ir.Constant(LONG, voxel))]))
            if self._labelled:
                prefetch(builder, builder.gep(tile.labels, [ahead]))
            ahead = builder.add(ahead, tile.sx)

    def values(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' values, four vectors."""
        return self._taps(builder, self._tile.values, FLOATS, FLOATS)

    def labels(self, builder: Any) -> tuple[Any, Any, Any, Any]:
        """The taps' labels, four int32 vectors."""
        return self._taps(builder, self._tile.labels, ir.VectorType(_BYTE, LANES), INTS)

    def mixed(self, builder: Any, slot: Any) -> Any:
        """Whether any voxel of the window has a label that is neither zero nor `slot`."""
        label = builder.insert_element(
            ir.Constant(_BYTES, ir.Undefined), builder.trunc(slot, _BYTE), ir.Constant(INT, 0)
        )
        here = builder.shuffle_vector(label, label, ir.Constant(ir.VectorType(INT, WINDOW), [0] * WINDOW))
        zero = ir.Constant(_BYTES, [0] * WINDOW)
        other = ir.Constant(ir.VectorType(ir.IntType(1), WINDOW), [0] * WINDOW)
        place = builder.gep(self._tile.labels, [self._start])
        for _ in range(ROWS):
            names = builder.load(builder.bitcast(place, _BYTES.as_pointer()), align=1)
            apart = builder.and_(builder.icmp_unsigned("!=", names, here), builder.icmp_unsigned("!=", names, zero))
            other = builder.or_(other, apart)
            place = builder.gep(place, [self._tile.sx])
        bits = builder.and_(builder.bitcast(other, INT), self._bits)
        return builder.icmp_unsigned("!=", bits, ir.Constant(INT, 0))

    def _bounds(self, builder: Any, row: int, dm: Any, high: Any) -> tuple[Any, Any]:
        """For 16 planes, dm from the anchor, the first and last cell that the rays meet, with a margin at both ends."""
        starts, slopes = (self._tile.at_ends(builder, row + i) for i in range(2))
        one, other = (builder.fadd(start, builder.fmul(dm, slope)) for start, slope in zip(starts, slopes, strict=True))
        ordered = builder.fcmp_ordered("<", one, other)
        low, top = builder.select(ordered, one, other), builder.select(ordered, other, one)
        low, top = builder.fsub(low, constant(MARGIN)), builder.fadd(top, constant(MARGIN))
        return tuple(builder.fptosi(clamp(builder, place, high), INTS) for place in (low, top))

    def _taps(self, builder: Any, array: Any, stored: Any, kind: Any) -> tuple[Any, Any, Any, Any]:
        place = builder.gep(array, [self._start])
        rows = []
        for _ in range(ROWS):
            rows.append(self._pick(builder, place, stored, kind))
            place = builder.gep(place, [self._tile.sx])
        v00, v01, v10, v11 = (
            builder.select(self._second, rows[1 + k][i], rows[k][i]) for k in range(2) for i in range(2)
        )
        return v00, v01, v10, v11

    def _pick(self, builder: Any, base: Any, stored: Any, kind: Any) -> list[Any]:
        """The voxels of a row that the lanes are at, and the ones right after."""
        name = "llvm.x86.avx512.vpermi2var." + ("ps.512" if kind is FLOATS else "d.512")
        permute = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, INTS, kind]), name)
        halves = []
        for i in range(2):
            place = builder.bitcast(builder.gep(base, [ir.Constant(LONG, i * LANES)]), stored.as_pointer())
            half = builder.load(place, align=1 if kind is INTS else 4)
            halves.append(builder.zext(half, INTS) if kind is INTS else half)
        after = builder.add(self._place, _ints(1))
        return [builder.call(permute, [halves[0], at, halves[1]]) for at in (self._place, after)]


def _ints(value: int) -> Any:
    return ir.Constant(INTS, [value] * LANES)


def _kept(builder: Any, vector: Any) -> Any:
    """The place of a vector's first number in memory."""
    place = cgutils.alloca_once(builder, INTS)
    builder.store(vector, place)
    return builder.bitcast(place, INT.as_pointer())
