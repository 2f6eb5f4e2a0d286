"""One labelled CT registered to another CT: whole pelvis first, then each femur by itself, for the hip is a joint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.atlas_elastix import ElastixImage, field_mm
from hierbmd.anatomy.atlas_grid import AIR_HU, DENSE_HU, Floats, Placed, cubic_grid, placed_by_bone, sampled
from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.shape import Mask, box_of, subgrid
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, transform_points
from hierbmd.units import METAL_HU

BONES = ("femur_left", "femur_right", "hip_left", "hip_right", "sacrum")

FAR_MM = 30.0
"""Signed distances are cut at this, outside the bone; what the atlas's scan does not show is that far too."""

_MASK_MM, _METAL_MM = 15.0, 8.0
_METAL_MM3 = 100.0
_JOINT_MASK_MM, _JOINT_STEP = 6.0, 2.0 / 3.0


@dataclass(frozen=True)
class Atlas:
    """A labelled CT: both on one grid. `mirrored` says that it is another's mirror image, its sides renamed."""

    volume: Volume
    labels: LabelMap
    mirrored: bool = False

    @property
    def present(self) -> tuple[str, ...]:
        """The bones that its labels have."""
        return tuple(name for name in BONES if name in self.labels.names_present)

    def usable(self) -> tuple[str, ...]:
        """Its bones without metal."""
        metal = ndimage.binary_dilation(self.volume.values > METAL_HU)
        least = _METAL_MM3 / self.volume.grid.voxel_mm3
        return tuple(name for name in self.present if np.count_nonzero(metal & self.labels.mask(name)) <= least)


@dataclass(frozen=True)
class Warp:
    """An atlas on its way: its bones' signed distances, mm, and where its scan shows them, on the target's coarse grid.

    `field_mm` (ni, nj, nk, 3) is the displacement of the registration as a whole, before the femora's own.
    """

    placed: Placed
    mirrored: bool
    distances: dict[str, Floats]
    seen: dict[str, Mask]
    field_mm: NDArray[np.float64]


def warped(target: Volume, atlas: Atlas, options: AtlasOptions) -> Warp:
    """Register an atlas to a target by elastix and carry its bones without metal.

    Errors: MissingExtra without itk-elastix; LabelsMismatch when its bones are not found, or elastix gives up.
    """
    placed = placed_by_bone(target, atlas.volume, atlas.labels, atlas.usable())
    coarse = cubic_grid(target.grid, options.spacing_mm)
    moved = placed.moved(atlas.volume.grid)
    own = cubic_grid(moved, options.spacing_mm)
    bones = np.isin(atlas.labels.ids, [atlas.labels.scheme[name] for name in atlas.present])
    near = away_mm(sampled(bones, moved, own) > 0.5, own) < _MASK_MM
    wide = away_mm(sampled(near, own, coarse) > 0.1, coarse) < _MASK_MM
    fixed = ElastixImage(
        _seen_hu(target, target.grid, coarse), wide & ~_near_metal(target, target.grid, coarse), coarse
    )
    moving = ElastixImage(_seen_hu(atlas.volume, moved, own), near & ~_near_metal(atlas.volume, moved, own), own)
    field = field_mm(fixed, moving, threads=options.threads, final_mm=options.control_points_mm)
    return carried(target, atlas, options, placed, field)


def carried(target: Volume, atlas: Atlas, options: AtlasOptions, placed: Placed, field: NDArray[np.float64]) -> Warp:
    """An atlas's bones by a displacement field (ni, nj, nk, 3), mm, on the target's coarse grid, femora again."""
    coarse, moved = cubic_grid(target.grid, options.spacing_mm), placed.moved(atlas.volume.grid)
    points = grid_points(coarse) + field
    distances, seen = {}, {}
    for name in atlas.usable():
        mask = atlas.labels.mask(name)
        distances[name] = signed_distance_mm(mask, moved, points)
        seen[name] = _inside(moved, points)
        if name.startswith("femur_") and options.by_bone and np.any(distances[name] < 0.0):
            aligned = Grid(
                moved.shape, np.linalg.inv(rigid_part(coarse, points, distances[name])) @ moved.world_from_index
            )
            own_points = grid_points(coarse) + _joint_field(
                target, atlas, aligned, (coarse, distances[name]), options, name
            )
            distances[name] = signed_distance_mm(mask, aligned, own_points)
            seen[name] = _inside(aligned, own_points)
    return Warp(placed, atlas.mirrored, distances, seen, field)


def rigid_part(grid: Grid, points: NDArray[np.float64], distance_mm: Floats) -> Matrix:
    """The rigid motion (4, 4) that a displacement is closest to inside a bone (Arun, IEEE PAMI 1987).

    `points` (ni, nj, nk, 3) are where the grid's voxels go; `distance_mm` below 0 is inside.
    """
    inside = distance_mm < 0.0
    here, there = grid_points(grid)[inside], points[inside]
    middle_here, middle_there = here.mean(axis=0), there.mean(axis=0)
    u, _, vt = np.linalg.svd((there - middle_there).T @ (here - middle_here))
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = turn, middle_there - turn @ middle_here
    return motion


def _joint_field(
    target: Volume, atlas: Atlas, aligned: Grid, carried_to: tuple[Grid, Floats], options: AtlasOptions, name: str
) -> NDArray[np.float64]:
    """One bone registered again, close around it: displacements at the voxels of the coarse grid, 0 away from the bone.

    `aligned` is the atlas's grid where the bone already lies on the target's by a rigid motion.
    """
    coarse, distance_mm = carried_to
    margin = int(np.ceil((_JOINT_MASK_MM + 6.0) / options.spacing_mm))
    box = box_of(distance_mm < 0.0, margin=margin)
    local = cubic_grid(subgrid(coarse, box), _JOINT_STEP * options.spacing_mm)
    bone = sampled(atlas.labels.mask(name), aligned, local) > 0.5
    inside = _inside(aligned, grid_points(local))
    masks = [
        sampled(distance_mm, coarse, local, outside=FAR_MM) < _JOINT_MASK_MM,
        away_mm(bone, local) < _JOINT_MASK_MM,
    ]
    if not bone.any():
        return np.zeros((*coarse.shape, 3))
    fixed, moving = (
        ElastixImage(_seen_hu(volume, grid, local), mask & inside & ~_near_metal(volume, grid, local), local)
        for volume, grid, mask in zip((target, atlas.volume), (target.grid, aligned), masks, strict=True)
    )
    field = field_mm(fixed, moving, threads=options.threads, final_mm=options.control_points_mm)
    return np.stack([sampled(field[..., axis], local, coarse) for axis in range(3)], axis=-1).astype(np.float64)


def grid_points(grid: Grid) -> NDArray[np.float64]:
    """The world points (ni, nj, nk, 3) of a grid's voxels, LPS mm."""
    places = np.moveaxis(np.indices(grid.shape), 0, -1).astype(np.float64)
    return transform_points(grid.world_from_index, places)


def signed_distance_mm(mask: Mask, grid: Grid, points: NDArray[np.float64]) -> Floats:
    """The signed distance from a mask's edge, mm, inside negative, at points (..., 3) of its world; at most 30 mm."""
    box = box_of(mask, margin=int(np.ceil(FAR_MM / float(grid.spacing_mm.min()))))
    mask, grid = mask[box], subgrid(grid, box)
    # The edge lies half a voxel from the centres on either side of it.
    half_mm = 0.5 * float(grid.spacing_mm.mean())
    signed = away_mm(mask, grid) - away_mm(~mask, grid)
    signed = np.clip(signed - np.sign(signed) * half_mm, -FAR_MM, FAR_MM)
    index = np.moveaxis(transform_points(grid.index_from_world, points), -1, 0)
    return np.asarray(ndimage.map_coordinates(signed, index, order=1, mode="constant", cval=FAR_MM), np.float32)


def away_mm(mask: Mask, grid: Grid) -> NDArray[np.float64]:
    """How far each voxel is from a mask, mm; nothing is near an empty one."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm))


def _inside(grid: Grid, points: NDArray[np.float64]) -> Mask:
    index = transform_points(grid.index_from_world, points)
    return np.asarray(np.all((index > -0.5) & (index < np.array(grid.shape) - 0.5), axis=-1))


def _near_metal(volume: Volume, grid: Grid, onto: Grid) -> Mask:
    metal = volume.values > METAL_HU
    if not metal.any():
        return np.zeros(onto.shape, dtype=bool)
    return np.asarray(away_mm(sampled(metal, grid, onto) > 0.05, onto) <= _METAL_MM)


def _seen_hu(volume: Volume, grid: Grid, onto: Grid) -> Floats:
    return np.clip(sampled(volume.values, grid, onto, outside=AIR_HU), AIR_HU, DENSE_HU)


def fused(warps: Sequence[Warp], name: str) -> tuple[Floats, Mask, float]:
    """A bone's mean signed distance over the atlases that carry it, where any of their scans shows it, their spread.

    The mean is over the atlases whose scan shows the place (Rohlfing and Maurer, IEEE TITB 2007); the spread is the
    mean standard deviation about the edge, mm.
    """
    ours = [warp for warp in warps if name in warp.distances]
    votes, shown = (np.stack([getattr(warp, what)[name] for warp in ours]) for what in ("distances", "seen"))
    weights = np.where(shown.any(axis=0), shown, True).astype(np.float32)
    mean = (votes * weights).sum(axis=0) / weights.sum(axis=0)
    edge = (np.abs(mean) < 2.0) & shown.all(axis=0)
    spread = float(votes[:, edge].std(axis=0).mean()) if len(votes) > 1 and edge.any() else 0.0
    return np.asarray(mean, dtype=np.float32), np.asarray(shown.any(axis=0)), spread
