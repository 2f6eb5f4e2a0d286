"""Bones carried onto a CT from labelled CTs by registration: placed by bone, elastix, fused, refined, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.atlas_gate import joint_findings, require_quality
from hierbmd.anatomy.atlas_grid import Floats, cubic_grid, sampled
from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.atlas_quality import Carried, bone_quality
from hierbmd.anatomy.atlas_refine import FINE_MM, refined
from hierbmd.anatomy.atlas_warp import BONES, FAR_MM, Atlas, Warp, fused, warped
from hierbmd.anatomy.shape import box_of, subgrid
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.labels import read_labels

_BAND_MM = 10.0


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
class CarriedLabels:
    """Labels on the target's grid under TotalSegmentator v2 ids, and plain findings of how well they lie."""

    labels: LabelMap
    findings: dict[str, Any]


def carried_labels(target: Volume, atlases: Sequence[Atlas], options: AtlasOptions | None = None) -> CarriedLabels:
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
        if not atlas.present:
            raise LabelsMismatch("no pelvic bone in the atlas", mend="femur_left, hip_right, ...: names or --scheme")
        used += [atlas] if atlas.usable() == atlas.present else [atlas, mirror_image(atlas)]
    found = labels_of(target, [warped(target, atlas, options) for atlas in used], options)
    require_quality(found.findings["bones"], found.findings["joints"])
    return found


def labels_of(target: Volume, warps: Sequence[Warp], options: AtlasOptions) -> CarriedLabels:
    """Registered atlases fused to one label map, refined and described; nothing is refused."""
    names = tuple(name for name in BONES if any(name in warp.distances for warp in warps))
    coarse = cubic_grid(target.grid, options.spacing_mm)
    means, seen, spread = zip(*(fused(warps, name) for name in names), strict=True)
    near = np.min(means, axis=0) < _BAND_MM
    if not near.any():
        raise LabelsMismatch("the atlas's bones are not in the CT", mend="is it a CT of the same part of the body?")
    box = box_of(sampled(near, coarse, target.grid, order=0) > 0.5)
    grid, hu = subgrid(target.grid, box), target.values[box]
    distances = np.stack([sampled(mean, coarse, grid, outside=FAR_MM) for mean in means])
    fine = float(grid.spacing_mm.min()) <= FINE_MM
    parts = refined(hu, distances, grid) if options.refine and fine else _plain(distances)
    shown = np.stack([sampled(one, coarse, grid, order=0) > 0.5 for one in seen])
    described = Carried(hu, parts, distances, shown, grid)
    ids = np.zeros(target.grid.shape, dtype=np.uint8)
    numbers = np.array([0, *(TOTALSEGMENTATOR_V2[name] for name in names)], dtype=np.uint8)
    ids[box] = numbers[parts]
    bones = {name: bone_quality(described, n) for n, name in enumerate(names, start=1)}
    for name, off_mm in zip(names, spread, strict=True):
        bones[name]["atlas_spread_mm"] = round(off_mm, 3)
    labels = LabelMap(ids, target.grid, {name: TOTALSEGMENTATOR_V2[name] for name in names})
    placed = [{"mirrored": w.mirrored, "similarity": w.placed.similarity, "scale": w.placed.scale} for w in warps]
    return CarriedLabels(labels, {"atlases": placed, "bones": bones, "joints": joint_findings(labels)})


def _plain(distances: Floats) -> NDArray[np.uint8]:
    nearest = np.argmin(distances, axis=0)
    return np.where(distances.min(axis=0) < 0.0, nearest + 1, 0).astype(np.uint8)
