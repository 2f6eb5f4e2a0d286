"""Bones moved on their own within a patient: cut out, the hole filled, the bone set in again at its new place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
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


def with_moved_bones(basis: Basis, labels: LabelMap, motions: Mapping[str, Matrix]) -> Basis:
    """The materials with some bones moved, each by its world_from_world (4x4, rigid, LPS mm).

    Each bone's voxels are cut out and the hole filled with the soft tissue next to it; the bone is then resampled
    (trilinear) at its new place and laid over what is there by its share of the voxel, so that nothing tears. Beyond
    the end of the volume a bone goes on as its last slice: a shaft cut by the scan stays cut at the border only.
    """
    if labels.grid != basis.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="resample it first, read_labels(onto=...)")
    pieces = {name: bone_piece(labels, name) for name in motions}
    if not pieces:
        return basis
    holes = np.logical_or.reduce(list(pieces.values()))
    amounts = _filled(basis.amounts, holes)
    for name, piece in pieces.items():
        _lay(amounts, basis, piece, require_rigid(motions[name], where=name))
    return Basis(amounts, basis.grid)


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
    size = tuple(s.stop - s.start for s in target_box)
    index = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in target_box], indexing="ij"))
    back = grid.index_from_world @ invert_rigid(world_from_world) @ grid.world_from_index
    start = np.array([s.start for s in source_box], dtype=np.float64)
    at = transform_points(back, index.reshape(3, -1).T.astype(np.float64)) - start
    mask = piece[source_box].astype(np.float32)
    share = _sampled(mask, at, size)
    region = amounts[target_box]
    for channel in range(amounts.shape[3]):
        moved = _sampled(basis.amounts[source_box][..., channel] * mask, at, size)
        region[..., channel] = region[..., channel] * (1.0 - share) + moved


def _sampled(values: Floats, at: NDArray[np.float64], size: tuple[int, ...]) -> Floats:
    # The box around the bone has an empty margin wherever the volume goes on, so "nearest" extends only what the scan
    # cut.
    sampled = ndimage.map_coordinates(values, at.T, order=1, mode="nearest")
    return np.asarray(sampled.reshape(size), dtype=np.float32)


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
