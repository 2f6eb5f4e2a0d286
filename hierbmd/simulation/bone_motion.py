"""Bones moved on their own within a patient: cut out, the hole filled, the bone set in again at its new place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import box_of
from hierbmd.data.volume import LabelMap
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, invert_rigid, require_rigid, transform_points
from hierbmd.simulation.basis import Basis

Floats = NDArray[np.float32]

_RIM_VOXELS = 1


def bone_piece(labels: LabelMap, name: str) -> NDArray[np.bool_]:
    """The voxels that belong to a bone when it moves: its label and a rim one voxel wide that no other structure has.

    The rim holds the bone's partial volume at its surface, so that the bone leaves nothing behind.
    """
    piece = labels.mask(name).copy()
    box = box_of(piece, margin=_RIM_VOXELS + 1)
    rim = ndimage.binary_dilation(piece[box], ndimage.generate_binary_structure(3, 1), iterations=_RIM_VOXELS)
    piece[box] |= rim & (labels.ids[box] == 0)
    return piece


@dataclass(frozen=True)
class Loose:
    """Materials whose bones can be moved again and again: `emptied` without them, each piece as it was cut out."""

    basis: Basis
    emptied: Floats
    pieces: dict[str, NDArray[np.bool_]]


def loosened(basis: Basis, labels: LabelMap, names: Iterable[str]) -> Loose:
    """Cut bones out and fill the holes with the soft tissue next to them: what every pose of a patient shares."""
    if labels.grid != basis.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="resample it first, read_labels(onto=...)")
    pieces = {name: bone_piece(labels, name) for name in names}
    if not pieces:
        return Loose(basis, basis.amounts, pieces)
    return Loose(basis, _filled(basis.amounts, np.logical_or.reduce(list(pieces.values()))), pieces)


def with_bones_at(loose: Loose, motions: Mapping[str, Matrix]) -> Basis:
    """The materials with every loosened bone set in at its world_from_world (4x4, rigid, LPS mm).

    A bone is resampled (trilinear) at its new place and laid over what is there by its share of the voxel, so that
    nothing tears. Beyond the end of the volume a bone goes on as its last slice: a shaft cut by the scan stays cut at
    the border only.
    """
    if not loose.pieces:
        return loose.basis
    amounts = loose.emptied.copy()
    for name, piece in loose.pieces.items():
        _lay(amounts, loose.basis, piece, require_rigid(motions.get(name, np.eye(4)), where=name))
    return Basis(amounts, loose.basis.grid)


def with_moved_bones(basis: Basis, labels: LabelMap, motions: Mapping[str, Matrix]) -> Basis:
    """The materials with some bones moved: `loosened`, then `with_bones_at`."""
    return with_bones_at(loosened(basis, labels, motions), motions)


def _filled(amounts: Floats, holes: NDArray[np.bool_]) -> Floats:
    """The amounts with holes filled by the mean soft tissue around them; no bone mineral or metal is put in."""
    filled = amounts.copy()
    box = box_of(holes, margin=6)
    open_ = ~holes[box] & (amounts[box][..., 2] < 0.05) & (amounts[box][..., 3] < 0.05)
    weight = ndimage.gaussian_filter(open_.astype(np.float32), 4.0, truncate=3.0)
    region, cut = filled[box], holes[box]
    for channel in (0, 1):
        total = ndimage.gaussian_filter(np.where(open_, region[..., channel], 0.0), 4.0, truncate=3.0)
        region[..., channel][cut] = (total / np.maximum(weight, 1e-4))[cut]
    # Where nothing soft is near (deep in a wide bone) muscle stands in.
    region[cut & (weight < 1e-3)] = (0.0, 1.0, 0.0, 0.0)
    region[..., 2][cut] = 0.0
    region[..., 3][cut] = 0.0
    return filled


def _lay(amounts: Floats, basis: Basis, piece: NDArray[np.bool_], world_from_world: Matrix) -> None:
    """Resample one piece at its new place into `amounts`, in place."""
    grid, source_box = basis.grid, box_of(piece)
    target_box = _target_box(grid, piece, world_from_world)
    # The box around the bone has an empty margin wherever the volume goes on, so the nearest voxel extends only what
    # the scan cut.
    back = grid.index_from_world @ invert_rigid(world_from_world) @ grid.world_from_index
    from_target = back @ _shift([s.start for s in target_box])
    from_target = _shift([-s.start for s in source_box]) @ from_target
    _overlay(amounts[target_box], basis.amounts[source_box], piece[source_box], from_target)


def _shift(by: Sequence[float]) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix


@njit(cache=True, nogil=True)
def _overlay(target, source, piece, source_from_target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """target = target (1 - share) + source, both of the trilinear sample of the piece, by the nearest voxel beyond."""
    m = source_from_target
    ni, nj, nk = piece.shape
    channels = source.shape[3]
    moved = np.empty(channels, np.float32)
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            for k in range(target.shape[2]):
                x = min(max(m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3], 0.0), ni - 1.0)
                y = min(max(m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3], 0.0), nj - 1.0)
                z = min(max(m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3], 0.0), nk - 1.0)
                a, b, c = int(x), int(y), int(z)
                share = np.float32(0)
                moved[:] = 0
                for corner in range(8):
                    p, q, r = corner >> 2, (corner >> 1) & 1, corner & 1
                    if a + p >= ni or b + q >= nj or c + r >= nk or not piece[a + p, b + q, c + r]:
                        continue
                    weight = (x - a) if p else 1.0 - (x - a)
                    weight *= (y - b) if q else 1.0 - (y - b)
                    weight *= (z - c) if r else 1.0 - (z - c)
                    share += np.float32(weight)
                    for channel in range(channels):
                        moved[channel] += np.float32(weight) * source[a + p, b + q, c + r, channel]
                if share > 0:
                    for channel in range(channels):
                        kept = target[i, j, k, channel] * (np.float32(1) - share)
                        target[i, j, k, channel] = kept + moved[channel]


def _target_box(grid: Grid, piece: NDArray[np.bool_], world_from_world: Matrix) -> tuple[slice, slice, slice]:
    box = box_of(piece, margin=1)
    corners = np.array(
        [[i, j, k] for i in _ends(box[0]) for j in _ends(box[1]) for k in _ends(box[2])], dtype=np.float64
    )
    # A bone that the scan cuts goes on: the corner beyond the border must be in the box too.
    span = np.array([s.stop - s.start for s in box]) * 0.2
    shape = np.array(grid.shape)
    corners += np.where(corners <= 0, -span, 0) + np.where(corners >= shape - 1, span, 0)
    moved = transform_points(grid.index_from_world @ world_from_world @ grid.world_from_index, corners)
    low = np.clip(np.floor(moved.min(axis=0)), 0, shape - 1).astype(int)
    high = np.clip(np.ceil(moved.max(axis=0)) + 1, low + 1, shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _ends(s: slice) -> tuple[int, int]:
    return s.start, s.stop - 1
