"""The volume as the compiled kernels want it: cropped to what is not zero, padded, in the order that they read."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from hierbmd.drr.kernel_types import BEYOND, BLOCK, CELL, GROUP, MIXED, PAD, Field
from hierbmd.drr.scene import Scene
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix

_TURNS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""For each c the axes in the order c, x, y."""


class Packed(NamedTuple):
    """A field, the 4x4 `from_index` that maps the scene's voxel indices to its own, and the structures it holds."""

    field: Field
    from_index: Matrix
    structures: slice


def pack(scene: Scene) -> tuple[Packed, ...]:
    """Padded float32 copies of what is in a structure and not zero: one each, or one for all with their labels.

    Structures far from each other, as bones are, take less room and less time each in a box of its own; where their
    boxes overlap so much that these would be more than the common box, they share it.
    """
    order = _memory_order(scene.grid)
    values = np.transpose(scene.values, order)
    count = len(scene.structures)
    if scene.memberships is not None:
        own = (np.transpose(scene.channel_values(n), order) for n in range(count))
        return tuple(_packed(part, None, order, slice(n, n + 1)) for n, part in enumerate(own))
    if scene.channels is None:
        return (_packed(values, None, order, slice(0, 1)),)
    channels = np.where(values != 0, np.transpose(scene.channels, order), np.uint8(0))
    if count == 1 or _separate_is_less(channels, count):
        return tuple(_packed(values, channels == n + 1, order, slice(n, n + 1)) for n in range(count))
    return (_packed(values, channels, order, slice(0, count)),)


def _separate_is_less(channels: NDArray[np.uint8], count: int) -> bool:
    boxes = [box for box in find_objects(channels, count) if box is not None]
    separate = sum(prod(side.stop - side.start + 2 * PAD for side in box) for box in boxes)
    first, last = _box(channels > 0)
    return separate <= int(np.prod(last - first + 2 * PAD))


def _packed(
    values: NDArray[np.float32], channels: NDArray[Any] | None, order: tuple[int, int, int], structures: slice
) -> Packed:
    """The field of the box of the voxels that are not zero and, where there are channels, in one of them."""
    filled = values != 0 if channels is None else channels > 0
    first, last = _box(filled)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    flat, padded = _zeros(filled[box].shape, np.float32)
    np.copyto(padded, values[box], where=filled[box])
    labels, names = np.zeros(BEYOND, dtype=np.uint8), np.zeros((3, 0, 0, 0), dtype=np.uint8)
    if channels is not None and structures.stop - structures.start > 1:
        labels, inner = _zeros(filled[box].shape, np.uint8)
        inner[...] = channels[box]
        names = _names(channels[box])
    strides = np.array(padded.strides, dtype=np.int64) // padded.itemsize
    shape = np.array(padded.shape, dtype=np.int64)
    origin = int(PAD * strides.sum())
    field = Field(flat, labels, shape, strides, origin, _filled_blocks(filled[box]), names)
    return Packed(field, _from_index(order, first), structures)


def _zeros(shape: tuple[int, ...], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """A padded box of zeros, flat and with room behind, and its part without the padding."""
    sides = [n + 2 * PAD for n in shape]
    flat = np.zeros(prod(sides) + BEYOND, dtype)
    return flat, flat[:-BEYOND].reshape(sides)[PAD:-PAD, PAD:-PAD, PAD:-PAD]


def _memory_order(grid: Grid) -> tuple[int, int, int]:
    """The index axes with the one nearest to the patient's long axis last: rays seldom run along that one."""
    along_body = np.abs(grid.world_from_index[2, :3] / grid.spacing_mm)
    last = int(np.argmax(along_body))
    return (last + 1) % 3, (last + 2) % 3, last


def _from_index(order: tuple[int, int, int], first: NDArray[np.intp]) -> Matrix:
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for new, old in enumerate(order):
        matrix[new, old], matrix[new, 3] = 1.0, -float(first[new])
    return matrix


def _box(filled: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first voxel and one past the last of the smallest box around the true ones; of an empty mask, voxel 0's."""
    bounds = [_bounds(np.any(filled, axis=tuple(i for i in range(3) if i != axis))) for axis in range(3)]
    ends = np.array([(low, high + 1) if high >= low else (0, 1) for low, high in bounds], dtype=np.intp)
    return ends[:, 0], ends[:, 1]


def _filled_blocks(filled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`Field.filled` of a box whose true voxels are not zero."""
    longest = max(filled.shape) + 2 * PAD
    out = np.empty((3, -(-longest // BLOCK), -(-longest // GROUP), 2), dtype=np.float32)
    out[..., 0], out[..., 1] = np.inf, -np.inf
    for c, order in enumerate(_TURNS):
        turned = np.transpose(filled, order)
        blocks = np.logical_or.reduceat(turned, np.arange(0, turned.shape[0], BLOCK), axis=0)
        padded = np.pad(blocks, ((0, 0), (PAD, 0), (0, 0)))
        groups = np.logical_or.reduceat(padded, np.arange(0, padded.shape[1], GROUP), axis=1)
        some = groups.any(axis=2)
        part = out[c, : some.shape[0], : some.shape[1]]
        part[some, 0] = groups.argmax(axis=2)[some] + PAD
        part[some, 1] = groups.shape[2] - 1 - groups[..., ::-1].argmax(axis=2)[some] + PAD
    return out


def _names(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`Field.names` of a box of labels."""
    longest = max(labels.shape) + 2 * PAD
    out = np.zeros((3, *(-(-longest // step) for step in (BLOCK, GROUP, CELL))), dtype=np.uint8)
    # Of labels less one the smallest is that of no background voxel: 0 becomes 255.
    less_one = labels - np.uint8(1)
    for c, order in enumerate(_TURNS):
        high, low = np.transpose(labels, order), np.transpose(less_one, order)
        for axis, (step, before) in enumerate(((BLOCK, 0), (GROUP, PAD), (CELL, PAD))):
            starts = np.maximum(np.arange(0, high.shape[axis] + before, step) - before, 0)
            high = np.maximum.reduceat(high, starts, axis=axis)
            low = np.minimum.reduceat(low, starts, axis=axis)
        part = out[c, : high.shape[0], : high.shape[1], : high.shape[2]]
        part[...] = np.where(low + np.uint8(1) == high, high, np.uint8(MIXED))
        part[high == 0] = 0
    return out


def _bounds(line: NDArray[np.bool_]) -> tuple[int, int]:
    """The first and last true element; (0, -1) where there is none."""
    places = np.flatnonzero(line)
    return (int(places[0]), int(places[-1])) if places.size else (0, -1)
