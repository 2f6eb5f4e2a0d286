"""Density-measuring regions of the proximal femur, cut in 3D as Hologic's DXA cuts them in 2D.

Total hip: the femur between two planes. Medially, the plane across the neck at the head-neck junction, where the
head's fitted sphere meets a cylinder of the neck's narrowest section: the head is left out, the neck is in. Distally,
the plane across the shaft just below the lesser trochanter's end (`RegionOptions.below_trochanter_mm`).

It is the sum of three parts, as Hologic's total hip is:
- femoral neck: the 15 mm next to the medial plane, across the neck (Hologic's neck box is 15 pixels of 1 mm wide);
- trochanter: lateral to that and above the trochanteric plane, which stands on the frontal plane and runs from the
  neck's axis at the neck's lateral end to the base of the greater trochanter;
- intertrochanter: lateral to the neck and below that plane.

All are made of whole voxels by their centres and follow the bone: moved rigidly, the same voxels are chosen.

Sources: neck box 49 x 15 pixels, ISCD DXA atlas, "Incorrect femoral neck box size"; the line between trochanteric and
intertrochanteric region from Ward's triangle, on the neck's axis at the lateral edge of the neck box, to the base of
the greater trochanter, legend of figure 4 in Radiology 2003;228:620.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np

from hierbmd.anatomy.femur import FemurAxes, Neck, femur_axes
from hierbmd.anatomy.options import HipRegion, RegionOptions
from hierbmd.anatomy.shape import Mask, Sphere, box_of, subgrid
from hierbmd.data.volume import LabelMap
from hierbmd.errors import BadRegion, SideConflict
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import Matrix, transform_points

HIP_REGIONS: tuple[HipRegion, ...] = get_args(HipRegion)
FEMORAL_NECK_WIDTH_MM = 15.0
_NECK_REACH = 1.25
"""How far from its axis, in head radii, bone belongs to the neck: beyond is the greater trochanter's tip."""

REGION_IDS = {
    f"{region}_{side}": 301 + 2 * n + m
    for n, region in enumerate(HIP_REGIONS)
    for m, side in enumerate((Side.LEFT, Side.RIGHT))
}
"""Ids of the regions in a label map that `hierbmd segment` writes, clear of TotalSegmentator's 1 to 117."""


def total_hip_region(labels: LabelMap, side: Side, options: RegionOptions | None = None) -> Mask:
    """The total-hip region of one side, (ni, nj, nk) bool on the label map's grid.

    Errors: LabelsMismatch without that femur; BadRegion when it cannot be placed; SideConflict when the bone's
    handedness is that of the other side.
    """
    femur = labels.mask(f"femur_{Side(side)}")
    axes = femur_axes(femur, labels.grid)
    require_side(axes, side)
    return total_hip(femur, labels.grid, axes, options)


def hip_regions(femur: Mask, grid: Grid, axes: FemurAxes, options: RegionOptions | None = None) -> dict[str, Mask]:
    """Every region of a femur whose axes are known, by name; neck, trochanter and intertrochanter make the total hip.

    BadRegion when the bone ends above the distal plane, or a part is empty.
    """
    total = total_hip(femur, grid, axes, options)
    neck = femoral_neck_region(femur, grid, axes.head, axes.neck, options) & total
    start = axes.head.centre_world_mm + _neck_ends_mm(axes.neck, options)[1] * axes.neck.direction
    towards = axes.trochanter_base_world_mm - start
    upwards = np.cross(axes.beam, towards)
    upwards *= -np.sign(upwards @ axes.down)

    def above(points: Matrix) -> Mask:
        return np.asarray((points - start) @ upwards > 0)

    trochanter = _where(total & ~neck, grid, above)
    return {
        "total_hip": total,
        "femoral_neck": neck,
        "trochanter": trochanter,
        "intertrochanter": _require_bone(total & ~neck & ~trochanter),
    }


def total_hip(femur: Mask, grid: Grid, axes: FemurAxes, options: RegionOptions | None = None) -> Mask:
    """The total-hip region of a femur whose axes are known; BadRegion when the bone ends above its distal plane."""
    options = options or RegionOptions()
    distal_mm = axes.lesser_trochanter_end_mm + options.below_trochanter_mm
    if distal_mm > axes.shaft.end_mm:
        raise BadRegion(
            f"the femur is cut off {axes.shaft.end_mm:.0f} mm below the head's centre, {distal_mm:.0f} mm are needed",
            mend="scan further down",
        )
    medial_mm = _neck_ends_mm(axes.neck, options)[0]

    def inside(points: Matrix) -> Mask:
        return np.asarray((axes.along_neck_mm(points) >= medial_mm) & (axes.along_shaft_mm(points) <= distal_mm))

    return _where(femur, grid, inside)


def femoral_neck_region(
    femur: Mask, grid: Grid, head: Sphere, neck: Neck, options: RegionOptions | None = None
) -> Mask:
    """The femoral-neck region, without the trochanter's tip beside it; it needs no shaft: a short scan has it too."""
    medial_mm, lateral_mm = _neck_ends_mm(neck, options)

    def inside(points: Matrix) -> Mask:
        offsets = points - head.centre_world_mm
        along = offsets @ neck.direction
        across = np.linalg.norm(offsets - along[..., None] * neck.direction, axis=-1)
        return np.asarray((along >= medial_mm) & (along < lateral_mm) & (across < _NECK_REACH * head.radius_mm))

    return _where(femur, grid, inside)


def _neck_ends_mm(neck: Neck, options: RegionOptions | None) -> tuple[float, float]:
    """Where the neck region begins and ends, from the head's centre along the neck."""
    medial_mm = neck.junction_mm + (options or RegionOptions()).junction_shift_mm
    return medial_mm, medial_mm + FEMORAL_NECK_WIDTH_MM


def require_side(axes: FemurAxes, side: Side, where: object = "") -> None:
    """Raise SideConflict when a femur's handedness is not that of its name; silent where no bump tells."""
    if axes.side in (Side.LEFT, Side.RIGHT) and axes.side != side:
        raise SideConflict(
            f"the bone named femur_{side} is a {axes.side} femur by its shape",
            where=where,
            mend="labels swapped or image mirrored: correct the file, nothing is flipped here",
        )


def shifted(options: RegionOptions, *, medial_mm: float = 0.0, distal_mm: float = 0.0) -> RegionOptions:
    """The options with planes moved, to see how much a region depends on where they are."""
    return replace(
        options,
        junction_shift_mm=options.junction_shift_mm + medial_mm,
        below_trochanter_mm=options.below_trochanter_mm + distal_mm,
    )


def _where(bone: Mask, grid: Grid, inside: Callable[[Matrix], Mask]) -> Mask:
    box = box_of(bone)
    local = subgrid(grid, box)
    places = np.moveaxis(np.indices(local.shape), 0, -1).astype(np.float64)
    answer = np.zeros_like(bone)
    answer[box] = bone[box] & inside(transform_points(local.world_from_index, places))
    return _require_bone(answer)


def _require_bone(region: Mask) -> Mask:
    if not region.any():
        raise BadRegion("the region is empty", mend="check the femur's label")
    return region
