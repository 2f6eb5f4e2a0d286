"""Smooth warps of a whole patient: displacements on a coarse lattice, their exponential, and images pulled through.

A warp is a backward displacement u: the new patient shows at y what lay at y + u(y). A velocity's exponential by
scaling and squaring is a diffeomorphism (Arsigny et al., MICCAI 2006); its Jacobian is measured all the same.
Intensities are transported, not masses: a part that grows holds more mineral at the same density.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, transform_points
from hierbmd.units import AIR_HU

Floats = NDArray[np.float32]
Vectors = NDArray[np.float64]

_SQUARINGS = 6
_SLAB_VOXELS = 2_000_000


@dataclass(frozen=True)
class Displacement:
    """A backward displacement `values` (mi, mj, mk, 3), mm along LPS, at the nodes of `lattice`; a cubic spline between
    them."""

    values: Vectors
    lattice: Grid

    @cached_property
    def coefficients(self) -> Vectors:
        """The spline's coefficients, (3, mi, mj, mk)."""
        return np.stack([ndimage.spline_filter(self.values[..., c], order=3, mode="mirror") for c in range(3)])

    def at(self, points_world_mm: Matrix) -> Vectors:
        """The displacement at points (..., 3); beyond the lattice that of its border."""
        index = transform_points(self.lattice.index_from_world, points_world_mm)
        index = np.clip(index, 0.0, np.array(self.lattice.shape) - 1.0)
        where = np.moveaxis(index, -1, 0)
        return np.stack(
            [ndimage.map_coordinates(c, where, order=3, mode="mirror", prefilter=False) for c in self.coefficients],
            axis=-1,
        )

    def slabs(self, grid: Grid) -> _Slabs:
        """The displacement at the voxels of a grid whose axes run along the lattice's, slab by slab."""
        return _Slabs(self, grid)

    def jacobian(self, grid: Grid) -> Vectors:
        """det(I + du/dx) at a grid's voxels, by central differences between them."""
        u = np.concatenate([part for _, part in self.slabs(grid)])
        by_index = np.stack(np.gradient(u, axis=(0, 1, 2)), axis=-1)
        return np.asarray(np.linalg.det(np.eye(3) + by_index @ grid.index_from_world[:3, :3]))


class _Slabs:
    """Slices along the first axis with the displacement there, (s, nj, nk, 3) float64, by separable spline weights."""

    def __init__(self, field: Displacement, grid: Grid) -> None:
        lattice_from_index = field.lattice.index_from_world @ grid.world_from_index
        weights = []
        for axis in range(3):
            at = lattice_from_index[axis, 3] + lattice_from_index[axis, axis] * np.arange(grid.shape[axis])
            weights.append(_spline_weights(at, field.lattice.shape[axis]))
        self._rows = weights[0]
        across = np.einsum("bj,cajk->cabk", weights[1], field.coefficients)
        self._across = np.einsum("dk,cabk->abdc", weights[2], across)
        self._step = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))

    def __iter__(self) -> Iterator[tuple[slice, Vectors]]:
        for start in range(0, len(self._rows), self._step):
            rows = slice(start, min(start + self._step, len(self._rows)))
            yield rows, np.tensordot(self._rows[rows], self._across, axes=1)


def _spline_weights(at: NDArray[np.float64], nodes: int) -> NDArray[np.float64]:
    """Cubic B-spline weights, (len(at), nodes), with the nodes mirrored at both ends."""
    at = np.clip(at, 0.0, nodes - 1.0)
    first = np.floor(at).astype(int)
    t = at - first
    parts = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    weights = np.zeros((len(at), nodes))
    for offset, part in zip((-1, 0, 1, 2), parts, strict=True):
        node = np.abs(first + offset)
        node = np.where(node >= nodes, 2 * (nodes - 1) - node, node)
        np.add.at(weights, (np.arange(len(at)), node), part)
    return weights


def lattice_around(grid: Grid, *, step_mm: float, margin_mm: float) -> Grid:
    """A lattice along a grid's axes that reaches `margin_mm` beyond it on every side."""
    step = step_mm / grid.spacing_mm
    start = -margin_mm / grid.spacing_mm
    shape = np.ceil((np.array(grid.shape) - 1.0 - 2.0 * start) / step).astype(int) + 1
    index = np.diag([*step, 1.0])
    index[:3, 3] = start
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), grid.world_from_index @ index)


def node_points(lattice: Grid) -> Matrix:
    """The nodes' places, (mi, mj, mk, 3), LPS mm."""
    index = np.moveaxis(np.indices(lattice.shape), 0, -1).astype(np.float64)
    return transform_points(lattice.world_from_index, index)


def smooth_velocity(rng: np.random.Generator, lattice: Grid, *, scale_mm: float) -> Vectors:
    """White noise under a Gaussian of SD `scale_mm`, with no mean and a root mean square length of 1, at the nodes."""
    noise = rng.standard_normal((*lattice.shape, 3))
    sigma = scale_mm / lattice.spacing_mm
    smooth = np.stack([ndimage.gaussian_filter(noise[..., c], sigma, mode="mirror") for c in range(3)], axis=-1)
    smooth -= smooth.mean(axis=(0, 1, 2))
    return np.asarray(smooth / np.sqrt(np.mean(np.sum(smooth**2, axis=-1))))


def exponential(velocity: Vectors, lattice: Grid) -> Displacement:
    """The displacement that a stationary velocity (mm in unit time) leads to, by scaling and squaring."""
    u = Displacement(velocity / 2.0**_SQUARINGS, lattice)
    for _ in range(_SQUARINGS):
        u = composed(u, u)
    return u


def composed(first: Displacement, then: Displacement) -> Displacement:
    """The backward displacement that looks up `first` and there `then`: u(y) = first(y) + then(y + first(y))."""
    at = node_points(first.lattice) + first.values
    return Displacement(first.values + then.at(at), first.lattice)


def warped(volume: Volume, field: Displacement, onto: Grid, *, order: int = 3, nearest: Floats | None = None) -> Volume:
    """A volume pulled through a backward displacement onto a grid along the same axes.

    `order` 3 keeps the texture sharp. Beyond the ends of the scan along the body the last slice goes on; beside it is
    air. Where `nearest` (a mask on the volume's grid, as float32) is above a half, values are looked up without
    interpolation: metal stays metal.
    """
    source = ndimage.spline_filter(volume.values, order=3, mode="mirror", output=np.float32) if order == 3 else None
    out = np.empty(onto.shape, dtype=np.float32)
    low, high = float(volume.values.min()), float(volume.values.max())
    for rows, at in _lookups(volume.grid, field, onto):
        values = volume.values if source is None else source
        kind = {"mode": "constant", "cval": AIR_HU, "prefilter": False}
        part = ndimage.map_coordinates(values, at, order=order, output=np.float32, **kind)
        if nearest is not None and nearest.any():
            metal = ndimage.map_coordinates(nearest, at, order=0, mode="constant") > 0.5
            part[metal] = ndimage.map_coordinates(volume.values, at[:, metal], order=0, mode="nearest")
        out[rows] = np.clip(part, low, high)
    return Volume(out, onto, volume.unit)


def warped_labels(labels: LabelMap, field: Displacement, onto: Grid) -> LabelMap:
    """A label map pulled through a backward displacement: each voxel goes to the structure with most of it (trilinear
    memberships), so surfaces stay where partial volume has them."""
    ids = np.zeros(onto.shape, dtype=labels.ids.dtype)
    background = (labels.ids == 0).astype(np.float32)
    boxes = {n: box for n, box in enumerate(ndimage.find_objects(labels.ids.astype(np.int32)), start=1) if box}
    for rows, at in _lookups(labels.grid, field, onto):
        best = ndimage.map_coordinates(background, at, order=1, cval=1.0)
        for one, box in boxes.items():
            _claim(ids[rows], best, one, (labels.ids[box] == one, at), [s.start for s in box])
    return LabelMap(ids, onto, labels.scheme)


def _claim(
    ids: NDArray[np.integer], best: Floats, one: int, found: tuple[NDArray[np.bool_], Vectors], start: Sequence[int]
) -> None:
    """Give a structure the voxels where its share is the largest so far; `found` is (mask in its box, lookups)."""
    mask, at = found
    near = np.logical_and.reduce([(at[a] > start[a] - 1.0) & (at[a] < start[a] + mask.shape[a]) for a in range(3)])
    if not near.any():
        return
    local = at[:, near] - np.array(start, dtype=np.float64)[:, None]
    # Padded by a voxel of nothing, so that a membership falls off beyond its box as inside it.
    share = ndimage.map_coordinates(np.pad(mask, 1).astype(np.float32), local + 1.0, order=1)
    wins = share > best[near]
    ids[near] = np.where(wins, np.asarray(one, dtype=ids.dtype), ids[near])
    best[near] = np.maximum(best[near], share)


def axial_axis(grid: Grid) -> int:
    """The index axis that runs along the body."""
    return int(np.argmax(np.abs(grid.world_from_index[2, :3]) / grid.spacing_mm))


def _lookups(source: Grid, field: Displacement, onto: Grid) -> Iterator[tuple[slice, Vectors]]:
    """Rows of the new grid with the index (3, s, nj, nk) in the source where each voxel is looked up."""
    index_from_onto = source.index_from_world @ onto.world_from_index
    linear = source.index_from_world[:3, :3]
    axial = axial_axis(source)
    for rows, u in field.slabs(onto):
        index = np.indices((rows.stop - rows.start, *onto.shape[1:]), dtype=np.float64)
        index[0] += rows.start
        at = np.tensordot(index_from_onto[:3, :3], index, axes=1) + index_from_onto[:3, 3, None, None, None]
        at += np.moveaxis(u @ linear.T, -1, 0)
        at[axial] = np.clip(at[axial], 0.0, source.shape[axial] - 1.0)
        yield rows, at
