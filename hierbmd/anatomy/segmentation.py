"""A given label map made fit for use: checked against the CT and the body, metal out, regions added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from hierbmd.anatomy.femur import FemurAxes, Neck, femoral_head, femoral_neck, femur_axes
from hierbmd.anatomy.hip import require_bone
from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.options import RegionOptions
from hierbmd.anatomy.regions import HIP_REGIONS, REGION_IDS, femoral_neck_region, hip_regions, require_side
from hierbmd.anatomy.shape import Mask, box_of, solid, subgrid, world_points
from hierbmd.anatomy.spine import LEVELS, spine_maps
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, LabelsMismatch, SideConflict, SuspectedUnit
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import Vector, transform_points

_VOLUMES_CM3 = {"femur_": (15.0, 900.0), "hip_": (60.0, 800.0), "sacrum": (40.0, 450.0), "vertebrae_": (4.0, 150.0)}
"""Plausible volumes of adults' bones, with a wide margin; a bone that the scan cuts may have less."""

_LEAST_WHOLE = 0.9
_SIDES = (Side.LEFT, Side.RIGHT)


@dataclass(frozen=True)
class Segmentation:
    """Bones under TotalSegmentator v2 ids, regions each as a map of its own, and what was found on the way.

    `regions` maps the name of a region (total_hip, lumbar, ...) to label maps with the ids of REGION_IDS and SPINE_IDS.
    `findings` is plain values for a JSON file: by bone its volume, metal, largest part; by femur its axes, side and
    regions or why there are none; the sides with metal, and the bones whose side nothing proved.
    """

    labels: LabelMap
    regions: Mapping[str, LabelMap]
    findings: Mapping[str, Any]


@dataclass
class _Notes:
    bones: dict[str, dict[str, Any]] = field(default_factory=dict)
    femora: dict[str, dict[str, Any]] = field(default_factory=dict)


def checked_segmentation(volume: Volume, labels: LabelMap, options: RegionOptions | None = None) -> Segmentation:
    """Check a label map that lies on the CT's grid, take metal out of its bones and add the femora's regions.

    Errors: LabelsMismatch (no bone, not on bone, in pieces), SuspectedUnit (a volume no bone has), SideConflict (left
    and right exchanged). A region that cannot be placed is a finding, not an error.
    """
    if labels.grid != volume.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="read it with read_labels(onto=...)")
    bones = [name for name in labels.names_present if name.startswith(tuple(_VOLUMES_CM3))]
    if not bones:
        raise LabelsMismatch("no bone in the label map", mend="names as TotalSegmentator v2, or --scheme")
    unknown = [name for name in labels.names_present if name not in TOTALSEGMENTATOR_V2]
    notes = _Notes()
    whole = _mapped(labels)
    ids = whole.copy()
    centres = {name: _check_bone(name, ids, volume, notes) for name in bones}
    _require_sides(centres)
    regions: dict[str, np.ndarray] = {kind: np.zeros(labels.grid.shape, dtype=np.uint16) for kind in HIP_REGIONS}
    for side in _SIDES:
        if f"femur_{side}" in bones:
            # A nail is part of the bone's shape, though not of its mineral.
            femur = whole == TOTALSEGMENTATOR_V2[f"femur_{side}"]
            _add_regions(side, femur, labels.grid, regions, notes, options)
    named = {name: TOTALSEGMENTATOR_V2[name] for name in labels.names_present if name in TOTALSEGMENTATOR_V2}
    maps: dict[str, LabelMap] = {kind: LabelMap(mask, labels.grid, _scheme_of(kind)) for kind, mask in regions.items()}
    spine = _add_spine(labels, maps)
    findings = {
        **{"bones": notes.bones, "femora": notes.femora, "spine": spine, "left_out": unknown},
        "metal_sides": [side.value for side in _SIDES if _has_metal(side, notes)],
        "sides_unproved": [name for name in bones if not _side_proved(name, bones, notes)],
    }
    maps = {kind: LabelMap(np.where(ids > 0, one.ids, 0), one.grid, one.scheme) for kind, one in maps.items()}
    return Segmentation(LabelMap(ids, labels.grid, named), maps, findings)


def _mapped(labels: LabelMap) -> np.ndarray:
    """The map under TotalSegmentator v2 ids; what has no name there is background."""
    table = np.zeros(int(labels.ids.max()) + 1, dtype=np.uint8)
    for name in labels.names_present:
        table[labels.scheme[name]] = TOTALSEGMENTATOR_V2.get(name, 0)
    return np.asarray(table[labels.ids])


def _check_bone(name: str, ids: np.ndarray, volume: Volume, notes: _Notes) -> Vector:
    """Check one bone, take the metal out of it in `ids`; returns its centroid in LPS mm."""
    box = box_of(ids == TOTALSEGMENTATOR_V2[name])
    mask, hu = ids[box] == TOTALSEGMENTATOR_V2[name], volume.values[box]
    volume_cm3 = float(np.count_nonzero(mask)) * volume.grid.voxel_mm3 / 1000.0
    low, high = next(span for start, span in _VOLUMES_CM3.items() if name.startswith(start))
    edge = _at_edge(box, mask, volume.grid.shape)
    if volume_cm3 > high or (volume_cm3 < low and not edge):
        raise SuspectedUnit(
            f"{name} has {volume_cm3:.3g} cm3, a bone {low:g} to {high:g}", mend="is the spacing in mm, the id right?"
        )
    require_bone(hu, mask, name)
    largest = float(np.count_nonzero(_largest(mask)) / np.count_nonzero(mask))
    if largest < _LEAST_WHOLE and name.startswith(("femur_", "hip_")):
        raise LabelsMismatch(f"{name} is in pieces: the largest is {largest:.0%} of it", mend="clean the label map")
    metal = metal_near(hu, mask) & mask
    ids[box][metal] = 0
    notes.bones[name] = {
        "volume_cm3": round(volume_cm3, 3),
        "mean_hu": round(float(hu[mask & ~metal].mean()), 1),
        "largest_part": round(largest, 4),
        "metal_mm3": round(float(np.count_nonzero(metal)) * volume.grid.voxel_mm3, 1),
        "at_scan_edge": edge,
    }
    return transform_points(subgrid(volume.grid, box).world_from_index, np.argwhere(mask).mean(axis=0))


def _largest(mask: Mask) -> Mask:
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))


def _at_edge(box: tuple[slice, slice, slice], mask: Mask, shape: tuple[int, int, int]) -> bool:
    index = np.argwhere(mask) + [s.start for s in box]
    return bool(np.any((index == 0) | (index == np.array(shape) - 1)))


def _require_sides(centres: Mapping[str, Vector]) -> None:
    """Left is towards +x in LPS: every left bone must lie to the left of its right fellow."""
    for name, centre in centres.items():
        fellow = centres.get(name.replace("_left", "_right"))
        if name.endswith("_left") and fellow is not None and centre[0] <= fellow[0]:
            raise SideConflict(
                f"{name} lies to the right of {name.replace('_left', '_right')} in the patient",
                mend="left and right are exchanged in the labels or in the image's header: correct the file",
            )


def _side_proved(name: str, bones: list[str], notes: _Notes) -> bool:
    """Whether the side in a bone's name was held against something: its fellow, or a femur's neck. No side: yes."""
    side = next((side for side in _SIDES if name.endswith(f"_{side}")), None)
    if side is None:
        return True
    fellow = name.replace(f"_{side}", f"_{Side.RIGHT if side == Side.LEFT else Side.LEFT}")
    return fellow in bones or notes.femora.get(name, {}).get("side_by_neck") == side.value


def _has_metal(side: Side, notes: _Notes) -> bool:
    return any(notes.bones.get(f"{bone}_{side}", {}).get("metal_mm3", 0.0) > 0.0 for bone in ("femur", "hip"))


def _add_regions(
    side: Side,
    femur: Mask,
    grid: Grid,
    regions: Mapping[str, np.ndarray],
    notes: _Notes,
    options: RegionOptions | None,
) -> None:
    """Place one femur's regions in `regions`, or note why there are none; its side is proved either way."""
    note: dict[str, Any] = {"side_by_neck": "not seen"}
    notes.femora[f"femur_{side}"] = note
    box = box_of(femur)
    bone, local = solid(femur[box]), subgrid(grid, box)
    found: dict[str, Mask] = {}
    try:
        head = femoral_head(bone, local)
        neck = femoral_neck(world_points(bone, local), head, local.voxel_mm3)
        note["side_by_neck"] = _side_by_neck(neck, side)
        found["femoral_neck"] = femoral_neck_region(femur, grid, head, neck, options)
        axes = femur_axes(femur, grid)
        require_side(axes, side)
        found |= hip_regions(femur, grid, axes, options)
        note |= _axes_note(axes)
    except BadRegion as error:
        note["no_region"] = str(error)
    for kind, mask in found.items():
        regions[kind][mask] = REGION_IDS[f"{kind}_{side}"]
    note["regions"] = list(found)


def _add_spine(labels: LabelMap, maps: dict[str, LabelMap]) -> dict[str, Any]:
    """Add the lumbar regions to `maps`, or note why there are none."""
    if not any(f"vertebrae_{name}" in labels.names_present for name in LEVELS):
        return {}
    try:
        found, axes = spine_maps(labels)
    except BadRegion as error:
        return {"no_region": str(error)}
    maps |= found
    heights = {name: round(one.height_mm, 2) for name, one in axes.vertebrae.items()}
    return {"up": [round(float(x), 4) for x in axes.up], "height_mm": heights}


def _side_by_neck(neck: Neck, side: Side) -> str:
    """The side to which the neck leads from the head; SideConflict when that is not the side of the label's name."""
    found = Side.LEFT if neck.direction[0] > 0 else Side.RIGHT
    if found != side:
        raise SideConflict(
            f"femur_{side} leads away from its head towards the patient's {found}",
            mend="left and right are exchanged in the labels or in the image's header: correct the file",
        )
    return found.value


def _axes_note(axes: FemurAxes) -> dict[str, Any]:
    return {
        "head_centre_world_mm": [round(float(x), 2) for x in axes.head.centre_world_mm],
        "head_radius_mm": round(axes.head.radius_mm, 2),
        "neck_direction": [round(float(x), 4) for x in axes.neck.direction],
        "shaft_direction": [round(float(x), 4) for x in axes.shaft.direction],
        "neck_shaft_deg": round(axes.neck_shaft_deg, 2),
        "trochanter_base_world_mm": [round(float(x), 2) for x in axes.trochanter_base_world_mm],
        "lesser_trochanter_end_mm": round(axes.lesser_trochanter_end_mm, 1),
        "trochanter_found": axes.trochanter_found,
        "side_by_handedness": axes.side.value,
    }


def _scheme_of(kind: str) -> dict[str, int]:
    return {name: REGION_IDS[name] for name in (f"{kind}_{side}" for side in (Side.LEFT, Side.RIGHT))}
