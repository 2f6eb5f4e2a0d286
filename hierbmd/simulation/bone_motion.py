"""Bones moved on their own within a patient: each rigid, the others still, soft tissue between them drawn along.

What lies at y in the moved patient is looked up at y + sum of w_b(y) (T_b^-1 y - y) over the moved bones b. w_b is 1 in
the bone at its new place and 0 in the bones that stay; between them it is shared by inverse squared distance, and fades
out away from the bone. In a joint the moved surface slides on the still one: a shear, without hole or overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import box_of
from hierbmd.data.volume import LabelMap
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.kernels import compiled
from hierbmd.rigid import Matrix, invert_rigid, require_rigid, transform_points
from hierbmd.simulation.basis import Basis
from hierbmd.simulation.bone_density import bones_in

Floats = NDArray[np.float32]

_RIM_VOXELS = 1
_COARSE_MM = 5.0
_FADE_MM = (40.0, 90.0)
_LEAST_WEIGHT, _NEAR_WEIGHT = 2e-3, 0.15
_STILL = 255
"""The owner of voxels of bones that stay; moved bones own theirs by their number from 1, soft tissue is 0."""


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
    """Materials whose bones can be moved again and again; whose bone a voxel is, is the same for every pose.

    `owner` (ni, nj, nk) uint8 is a moved bone's number from 1 in the order of `names`, 255 in bones that stay, else 0.
    """

    basis: Basis
    owner: NDArray[np.uint8]
    names: tuple[str, ...]


def loosened(basis: Basis, labels: LabelMap, names: Iterable[str]) -> Loose:
    """Materials ready to have the bones of these names moved; LabelsMismatch when the labels are not on their grid."""
    if labels.grid != basis.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="resample it first, read_labels(onto=...)")
    names = tuple(names)
    owner = np.zeros(basis.grid.shape, dtype=np.uint8)
    still = [labels.id_of(name) for name in bones_in(labels) if name not in names]
    owner[np.isin(labels.ids, still)] = _STILL
    for number, name in enumerate(names, start=1):
        owner[bone_piece(labels, name)] = number
    return Loose(basis, owner, names)


def with_bones_at(loose: Loose, motions: Mapping[str, Matrix]) -> Basis:
    """The materials with the loosened bones at their world_from_world (4x4, rigid, LPS mm); not named: at rest.

    A moved bone is resampled (trilinear) by its share of each voxel, and soft tissue from soft tissue alone, so no bone
    leaves mineral behind. Bones that stay keep their voxels; where a moved one meets them, the denser one is seen.
    Beyond the end of the volume a bone goes on as its last slice: a shaft cut by the scan stays cut at the border only.
    """
    if not motions or not loose.names:
        return loose.basis
    grid = loose.basis.grid
    inverse = [invert_rigid(require_rigid(motions.get(name, np.eye(4)), where=name)) for name in loose.names]
    backs = np.stack([grid.index_from_world @ back @ grid.world_from_index for back in inverse])
    weights, step = _weights(loose.owner, grid, backs)
    # Of each coarse cell the largest weight at its corners: most voxels are far from any moved bone, and cost one look.
    reach = ndimage.maximum_filter(weights, size=(1, 2, 2, 2), origin=(0, -1, -1, -1))
    amounts = loose.basis.amounts.copy()
    _pull(loose.basis.amounts, loose.owner, backs[:, :3], (weights, reach, step), amounts)
    return Basis(amounts, grid)


def with_moved_bones(basis: Basis, labels: LabelMap, motions: Mapping[str, Matrix]) -> Basis:
    """The materials with some bones moved: `loosened`, then `with_bones_at`."""
    return with_bones_at(loosened(basis, labels, motions), motions)


def _weights(owner: NDArray[np.uint8], grid: Grid, backs: NDArray[np.float64]) -> tuple[Floats, NDArray[np.float64]]:
    """w_b at the nodes of a coarse lattice that starts at voxel (0, 0, 0), (bones, mi, mj, mk), and its step in
    voxels."""
    step = np.maximum(_COARSE_MM / grid.spacing_mm, 1.0)
    shape = np.maximum(np.ceil((np.array(grid.shape) - 1.0) / step).astype(int) + 1, 2)
    nodes = np.moveaxis(np.indices(tuple(shape)), 0, -1) * step
    apart_mm = step * grid.spacing_mm

    def distance(found: NDArray[np.bool_]) -> NDArray[np.float64]:
        if not found.any():
            return np.full(tuple(shape), np.inf)
        return np.asarray(ndimage.distance_transform_edt(~found, sampling=apart_mm))

    def owned_at(index: NDArray[np.float64]) -> NDArray[np.uint8]:
        nearest = np.clip(np.rint(index), 0, np.array(grid.shape) - 1).astype(int)
        return owner[nearest[..., 0], nearest[..., 1], nearest[..., 2]]

    moved_mm = [distance(owned_at(transform_points(back, nodes)) == n) for n, back in enumerate(backs, start=1)]
    pulls = [1.0 / np.maximum(d, 1.0) ** 2 for d in [*moved_mm, distance(owned_at(nodes) == _STILL)]]
    total = np.sum(pulls, axis=0)
    low, high = _FADE_MM
    faded = [np.clip((high - d) / (high - low), 0.0, 1.0) for d in moved_mm]
    shares = [pull / total * (f * f * (3.0 - 2.0 * f)) for pull, f in zip(pulls, faded, strict=False)]
    return np.stack(shares).astype(np.float32), step


# Without fastmath, so that a cached kernel and one just compiled give the same bytes.
@compiled
def _pull(source, owner, backs, fields, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Overlay, voxel by voxel, the moved bones by their share on what soft tissue or still bone is there."""
    channels = source.shape[3]
    bone, soft, u = np.zeros(channels, np.float32), np.zeros(channels, np.float32), np.zeros(3)
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            for k in range(source.shape[2]):
                share = _gather(source, owner, backs, fields, (i, j, k), (bone, u))
                if share < 0.0 and (owner[i, j, k] == 0 or owner[i, j, k] == _STILL):
                    continue
                share = max(share, np.float32(0.0))
                rest = np.float32(1.0) - share
                if share > 0.999:
                    # All bone, also where two moved ones meet: amounts of a whole voxel.
                    rest = np.float32(0.0)
                    for c in range(channels):
                        bone[c] /= share
                elif owner[i, j, k] == _STILL:
                    soft[:] = source[i, j, k]
                    # A rim of soft tissue that a moved bone takes along does not cut into a still one.
                    if bone[2] + bone[3] < share * (soft[2] + soft[3]):
                        continue
                else:
                    _soft(source, owner, (i + u[0], j + u[1], k + u[2]), soft)
                for c in range(channels):
                    out[i, j, k, c] = bone[c] + rest * soft[c]


@compiled
def _gather(source, owner, backs, fields, index, into):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The moved bones' share of a voxel, -1 far from all of them; their amounts and the displacement go `into`."""
    weights, reach, step = fields
    i, j, k = index
    bone, u = into
    bone[:] = 0.0
    u[:] = 0.0
    share, drawn = np.float32(0.0), False
    x, y, z = i / step[0], j / step[1], k / step[2]
    for b in range(backs.shape[0]):
        if reach[b, int(x), int(y), int(z)] < _LEAST_WEIGHT:
            continue
        w = _coarse(weights[b], x, y, z)
        if w < _LEAST_WEIGHT:
            continue
        drawn = True
        m = backs[b]
        p = m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]
        q = m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]
        r = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
        if w > _NEAR_WEIGHT:
            share += _sample(source, owner, b + 1, (p, q, r), bone)
        u[0], u[1], u[2] = u[0] + w * (p - i), u[1] + w * (q - j), u[2] + w * (r - k)
    return share if drawn else np.float32(-1.0)


@compiled
def _soft(source, owner, place, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The soft tissue at a place, in full; where bone alone is there, muscle stands in."""
    out[:] = 0.0
    share = _sample(source, owner, 0, place, out)
    if share > 1e-3:
        for c in range(out.shape[0]):
            out[c] /= share
    else:
        out[:] = 0.0
        out[1] = 1.0


@compiled
def _coarse(values, x, y, z):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    i, j, k = min(int(x), values.shape[0] - 2), min(int(y), values.shape[1] - 2), min(int(z), values.shape[2] - 2)
    fx, fy, fz = x - i, y - j, z - k
    low = (values[i, j, k] * (1 - fz) + values[i, j, k + 1] * fz) * (1 - fy)
    low += (values[i, j + 1, k] * (1 - fz) + values[i, j + 1, k + 1] * fz) * fy
    high = (values[i + 1, j, k] * (1 - fz) + values[i + 1, j, k + 1] * fz) * (1 - fy)
    high += (values[i + 1, j + 1, k] * (1 - fz) + values[i + 1, j + 1, k + 1] * fz) * fy
    return low * (1 - fx) + high * fx


@compiled
def _sample(values, owner, wanted, at, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Add to `out` the trilinear part of all channels that belongs to one owner; returns that owner's share.

    Beyond the border the last voxel goes on.
    """
    x = min(max(at[0], 0.0), values.shape[0] - 1.0)
    y = min(max(at[1], 0.0), values.shape[1] - 1.0)
    z = min(max(at[2], 0.0), values.shape[2] - 1.0)
    i, j, k = int(x), int(y), int(z)
    fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
    one, share = np.float32(1.0), np.float32(0.0)
    for corner in range(8):
        a, b, d = corner >> 2, (corner >> 1) & 1, corner & 1
        w = (fx if a else one - fx) * (fy if b else one - fy) * (fz if d else one - fz)
        if w > 0.0 and owner[i + a, j + b, k + d] == wanted:
            share += w
            for c in range(out.shape[0]):
                out[c] += w * values[i + a, j + b, k + d, c]
    return share
