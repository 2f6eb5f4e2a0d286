"""Bones carried onto a CT from labelled CTs by registration: placed by bone, elastix, fused, refined, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.atlas_elastix import ElastixImage, field_mm
from hierbmd.anatomy.atlas_grid import AIR_HU, DENSE_HU, Placed, cubic_grid, placed_by_bone, sampled
from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.atlas_quality import bone_quality, require_quality
from hierbmd.anatomy.atlas_refine import FINE_MM, refined
from hierbmd.anatomy.shape import box_of, subgrid
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels
from hierbmd.rigid import transform_points
from hierbmd.units import METAL_HU

BONES = ("femur_left", "femur_right", "hip_left", "hip_right", "sacrum")
_MASK_MM, _METAL_MM, _BAND_MM, _FAR_MM = 15.0, 8.0, 6.0, 30.0
_METAL_MM3 = 100.0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Atlas:
    """A labelled CT: both on one grid. `mirrored` says that it is another's mirror image, its sides renamed."""

    volume: Volume
    labels: LabelMap
    mirrored: bool = False

    def usable(self) -> tuple[str, ...]:
        """Its bones without metal; LabelsMismatch when there is none."""
        metal = ndimage.binary_dilation(self.volume.values > METAL_HU)
        least = _METAL_MM3 / self.volume.grid.voxel_mm3
        present = [name for name in BONES if name in self.labels.names_present]
        return tuple(name for name in present if np.count_nonzero(metal & self.labels.mask(name)) <= least)


def mirror_image(atlas: Atlas) -> Atlas:
    """The atlas of the mirrored patient: x turned over, left and right renamed."""
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0]) @ atlas.volume.grid.world_from_index
    grid = Grid(atlas.volume.grid.shape, matrix)

    def fellow(name: str) -> str:
        if "_left" in name:
            return name.replace("_left", "_right")
        return name.replace("_right", "_left")

    scheme = {fellow(name): number for name, number in atlas.labels.scheme.items()}
    return Atlas(Volume(atlas.volume.values, grid), LabelMap(atlas.labels.ids, grid, scheme), not atlas.mirrored)


def read_atlases(options: AtlasOptions, *, scheme: Path | None = None) -> list[Atlas]:
    """The labelled CTs that the options name; the refusals of `read_volume` and `read_labels`."""
    pairs = zip(options.atlas[::2], options.atlas[1::2], strict=True)
    volumes = [(read_volume(ct), labels) for ct, labels in pairs]
    return [Atlas(volume, read_labels(labels, scheme=scheme, onto=volume.grid)) for volume, labels in volumes]


@dataclass(frozen=True)
class Carried:
    """Labels on the target's grid under TotalSegmentator v2 ids, and plain findings of how well they lie."""

    labels: LabelMap
    findings: dict[str, Any]


def carried_labels(target: Volume, atlases: Sequence[Atlas], options: AtlasOptions | None = None) -> Carried:
    """Carry the bones of atlases onto a CT; an atlas with metal in a paired bone serves that side by its mirror image.

    Errors: MissingExtra without itk-elastix; LabelsMismatch (no bone, not found in the CT, or a fit too bad to use).
    """
    options = options or AtlasOptions()
    used: list[Atlas] = []
    for atlas in atlases:
        if atlas.labels.grid != atlas.volume.grid:
            raise LabelsMismatch(
                "an atlas's labels are not on its CT's grid", mend="read them with read_labels(onto=...)"
            )
        present = [name for name in BONES if name in atlas.labels.names_present]
        if not present:
            raise LabelsMismatch("no pelvic bone in the atlas", mend="femur_left, hip_right, ...: names or --scheme")
        used += [atlas] if set(atlas.usable()) == set(present) else [atlas, mirror_image(atlas)]
    warps = [_warp(target, atlas, options) for atlas in used]
    names = tuple(name for name in BONES if any(name in w.distances for w in warps))
    coarse = cubic_grid(target.grid, options.spacing_mm)
    means, spread = _fused(warps, names)
    near = np.min(list(means.values()), axis=0) < _BAND_MM
    box = box_of(sampled(near, coarse, target.grid, order=0) > 0.5)
    grid, hu = subgrid(target.grid, box), target.values[box]
    distances = np.stack([sampled(means[name], coarse, grid, outside=_FAR_MM) for name in names])
    fine = float(grid.spacing_mm.min()) <= FINE_MM
    parts = refined(hu, distances, grid) if options.refine and fine else _plain(distances)
    ids = np.zeros(target.grid.shape, dtype=np.uint8)
    numbers = np.array([0, *(TOTALSEGMENTATOR_V2[name] for name in names)], dtype=np.uint8)
    ids[box] = numbers[parts]
    findings = {name: bone_quality(hu, parts == n, grid, distances[n - 1]) for n, name in enumerate(names, start=1)}
    for name, one in findings.items():
        one["atlas_spread_mm"] = spread[name]
    placed = [{"mirrored": w.atlas.mirrored, "similarity": w.placed.similarity, "scale": w.placed.scale} for w in warps]
    require_quality(findings)
    scheme = {name: TOTALSEGMENTATOR_V2[name] for name in names}
    return Carried(LabelMap(ids, target.grid, scheme), {"atlases": placed, "bones": findings})


@dataclass(frozen=True)
class _Warp:
    """An atlas on its way: its bones' signed distances, mm, at the voxels of the coarse grid of the target."""

    atlas: Atlas
    placed: Placed
    distances: dict[str, Floats]


def _warp(target: Volume, atlas: Atlas, options: AtlasOptions) -> _Warp:
    usable, names = atlas.usable(), [name for name in BONES if name in atlas.labels.names_present]
    placed = placed_by_bone(target, atlas.volume, atlas.labels, usable)
    moved = placed.moved(atlas.volume.grid)
    own = cubic_grid(moved, options.spacing_mm)
    bones = np.isin(atlas.labels.ids, [atlas.labels.scheme[name] for name in names])
    near = _away_mm(sampled(bones, moved, own) > 0.5, own) < _MASK_MM
    metal = sampled(atlas.volume.values > METAL_HU, moved, own) > 0.05
    if metal.any():
        near &= _away_mm(metal, own) > _METAL_MM
    coarse = cubic_grid(target.grid, options.spacing_mm)
    fixed_metal = sampled(target.values > METAL_HU, target.grid, coarse) > 0.05
    around = sampled(near, own, coarse) > 0.1
    wide = _away_mm(around, coarse) < _MASK_MM
    if fixed_metal.any():
        wide &= _away_mm(fixed_metal, coarse) > _METAL_MM
    fixed = ElastixImage(_seen(sampled(target.values, target.grid, coarse, outside=AIR_HU)), wide, coarse)
    moving = ElastixImage(_seen(sampled(atlas.volume.values, moved, own, outside=AIR_HU)), near, own)
    field = field_mm(fixed, moving, threads=options.threads, final_mm=options.control_points_mm)
    places = np.moveaxis(np.indices(coarse.shape), 0, -1).astype(np.float64)
    points = transform_points(coarse.world_from_index, places) + field
    distances = {name: _carried_distance(atlas.labels.mask(name), moved, points) for name in usable}
    return _Warp(atlas, placed, distances)


def _carried_distance(mask: NDArray[np.bool_], grid: Grid, points: NDArray[np.float64]) -> Floats:
    """The signed distance from a mask's edge, mm, inside negative, at points (..., 3) of its world."""
    # The edge lies half a voxel from the centres on either side of it.
    half_mm = 0.5 * float(grid.spacing_mm.mean())
    signed = _away_mm(mask, grid) - _away_mm(~mask, grid)
    signed = np.clip(signed - np.sign(signed) * half_mm, -_FAR_MM, _FAR_MM)
    index = np.moveaxis(transform_points(grid.index_from_world, points), -1, 0)
    return np.asarray(ndimage.map_coordinates(signed, index, order=1, mode="constant", cval=_FAR_MM), np.float32)


def _away_mm(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm))


def _seen(hu: Floats) -> Floats:
    return np.clip(hu, AIR_HU, DENSE_HU)


def _fused(warps: Sequence[_Warp], names: Sequence[str]) -> tuple[dict[str, Floats], dict[str, float]]:
    """Each bone's mean signed distance over the atlases (Rohlfing and Maurer, IEEE TITB 2007), and their spread, mm."""
    means, spread = {}, {}
    for name in names:
        votes = np.stack([warp.distances[name] for warp in warps if name in warp.distances])
        means[name] = votes.mean(axis=0)
        edge = np.abs(means[name]) < 2.0
        spread[name] = round(float(votes[:, edge].std(axis=0).mean()), 3) if len(votes) > 1 and edge.any() else 0.0
    return means, spread


def _plain(distances: Floats) -> NDArray[np.uint8]:
    nearest = np.argmin(distances, axis=0)
    return np.where(distances.min(axis=0) < 0.0, nearest + 1, 0).astype(np.uint8)
