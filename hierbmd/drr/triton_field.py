"""The volume as the GPU kernels want it: cropped to what is not zero, padded, labels in the same word as the value."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.drr.scene import Scene
from hierbmd.drr.triton_march import PAD, SHIFT, SLAB, Field
from hierbmd.errors import BadConfig
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix

_PAD, _SHIFT, _SLAB = PAD.value, SHIFT.value, SLAB.value
_GROUPS = (1, 2, 4)
_PER_SAMPLE, _PER_STRUCTURE = 46.0, 21.0
"""Instructions of the compiled kernel (sm_90): of a sample, and what each structure of a program adds to it."""


class Packed(NamedTuple):
    """A field on a device, how many structures a program of the kernel takes, and the bits of a label, 0 without."""

    field: Field
    group: int
    label_bits: int


def pack(scene: Scene, device: torch.device) -> Packed:
    """A scene's volume on a device, in float32; soft structures have a volume each, in the box around all of them.

    With several hard structures a voxel's label takes the lowest bits of its float, as few as will do: the value is
    rounded by at most 2^-22 of itself for 3 structures, 2^-20 for 15, 2^-16 for 255. Raises BadConfig for 2^31 voxels
    and more.
    """
    order = _memory_order(scene.grid)
    count = len(scene.structures)
    volumes, labels = _volumes_and_labels(scene, order)
    corner, shape = _box((volumes != 0).any(axis=0))
    box = (slice(None), *(slice(first, first + n) for first, n in zip(corner, shape, strict=True)))
    words: NDArray[Any] = np.pad(volumes[box], [(0, 0), *[(_PAD, _PAD)] * 3])
    if words[0].size >= 2**31:
        raise BadConfig(f"a volume of {words[0].size} voxels", mend="cut it or resample it below 2^31")
    if labels is None:
        rectangles, group, label_bits = np.stack([_filled(volume != 0) for volume in volumes[box]]), 1, 0
    else:
        rectangles = np.stack([_filled(labels[box[1:]] == n + 1) for n in range(count)])
        group, label_bits = _group(rectangles), count.bit_length()
        words = _with_labels(words, np.pad(labels[box[1:]], _PAD), label_bits)
    strides = [stride // words.itemsize for stride in words.strides]
    field = Field(
        torch.from_numpy(words.ravel()).to(device),
        torch.from_numpy(_shifted(_united(rectangles, group))).to(device),
        torch.from_numpy((_from_index(order, corner) @ scene.grid.index_from_world)[:3].copy()).to(device),
        n0=shape[0],
        n1=shape[1],
        n2=shape[2],
        s0=strides[1],
        s1=strides[2],
        slabs=rectangles.shape[2],
        apart=strides[0] if len(words) > 1 else 0,
    )
    return Packed(field, group, label_bits)


def _volumes_and_labels(
    scene: Scene, order: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """The volumes (V, n0, n1, n2), one for all structures or, where these are soft, one each; zero outside them.

    And the labels of several hard structures, 0 where the volume is zero.
    """
    count = len(scene.structures)
    if scene.channels is None or count == 1:
        return np.stack([np.transpose(scene.channel_values(n), order) for n in range(count)]), None
    values, channels = np.transpose(scene.values, order), np.transpose(scene.channels, order)
    inside = np.where(channels > 0, values, np.float32(0))
    return inside[None], np.where(inside != 0, channels, np.uint8(0))


def _memory_order(grid: Grid) -> tuple[int, int, int]:
    """The index axes with the one nearest to the patient's long axis last: rays seldom run along that one."""
    along_body = np.abs(grid.world_from_index[2, :3] / grid.spacing_mm)
    last = int(np.argmax(along_body))
    return (last + 1) % 3, (last + 2) % 3, last


def _from_index(order: tuple[int, int, int], corner: tuple[int, ...]) -> Matrix:
    """The 4x4 from the scene's voxel indices to those of the reordered box."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for new, old in enumerate(order):
        matrix[new, old], matrix[new, 3] = 1.0, -float(corner[new])
    return matrix


def _box(filled: NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The corner and the shape of the smallest box around what is not zero; one voxel where nothing is."""
    lines = [np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    ends = [(int(line[0]), int(line[-1]) + 1) if line.size else (0, 1) for line in lines]
    return tuple(first for first, _ in ends), tuple(last - first for first, last in ends)


def _with_labels(values: NDArray[np.float32], labels: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """The words of the values with their lowest bits rounded away, and the labels there."""
    words = np.ascontiguousarray(values).view(np.int32) + np.int32(1 << (bits - 1))
    return np.asarray((words & np.int32(-(1 << bits))) | labels)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """For each axis c and slab of its planes the lowest and highest voxel on a, then on b, that is true, (3, slabs, 4).

    Where there is none the lowest is infinite, the highest minus infinite.
    """
    out = np.empty((3, -(-max(mask.shape) // _SLAB), 4), dtype=np.float32)
    out[..., 0::2], out[..., 1::2] = np.inf, -np.inf
    (inside,) = ndimage.find_objects(mask.astype(np.uint8)) or (None,)
    if inside is None:
        return out
    for c in range(3):
        for side, other in ((0, (c + 2) % 3), (1, (c + 1) % 3)):
            flat = mask[inside].any(axis=other)
            flat = flat if c < 3 - c - other else flat.T
            across = inside[3 - c - other].start
            for plane, row in enumerate(flat, start=inside[c].start):
                places = np.flatnonzero(row)
                if places.size:
                    bounds = out[c, plane // _SLAB, 2 * side : 2 * side + 2]
                    bounds[0] = min(bounds[0], places[0] + across)
                    bounds[1] = max(bounds[1], places[-1] + across)
    return out


def _united(rectangles: NDArray[np.float32], group: int) -> NDArray[np.float32]:
    """The rectangles of groups of structures from those of each, (groups, 3, slabs, 4)."""
    parts = [rectangles[first : first + group] for first in range(0, len(rectangles), group)]
    out = np.stack([part.min(axis=0) for part in parts])
    out[..., 1::2] = np.stack([part[..., 1::2].max(axis=0) for part in parts])
    return out


def _shifted(rectangles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Voxels as the places of rays that touch them: shifted, wider by a tap and a thousandth for rounding."""
    wider = np.array([-1.001, 1.001, -1.001, 1.001], dtype=np.float32) + np.float32(_SHIFT)
    return np.ascontiguousarray(rectangles + wider)


def _group(rectangles: NDArray[np.float32]) -> int:
    """How many structures a program takes: many where they lie within each other, one where they lie apart."""

    def cost(group: int) -> float:
        united = _united(rectangles, group)
        sides = np.maximum(united[..., 1::2] - united[..., 0::2] + 2, 0)
        return float(sides.prod(axis=-1).sum()) * (_PER_SAMPLE + _PER_STRUCTURE * group)

    return min(_GROUPS, key=cost)
