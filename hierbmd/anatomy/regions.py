"""Density-measuring regions of the proximal femur, cut in 3D as DXA cuts them in 2D.

Total hip: the femur between two planes. Medially, the plane across the neck at the head-neck junction, where the
head's fitted sphere meets a cylinder of the neck's narrowest section: the head is left out, the neck is in. Distally,
the plane across the shaft just below the lesser trochanter's end (`RegionOptions.below_trochanter_mm`). It so holds
what Hologic calls neck, trochanteric and intertrochanteric regions.

Femoral neck: a slab across the neck, 15 mm wide as Hologic's neck box, about its narrowest section.

Both are made of whole voxels by their centres and follow the bone: moved rigidly, the same voxels are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hierbmd.anatomy.femur import FemurAxes, femur_axes
from hierbmd.anatomy.options import RegionOptions
from hierbmd.anatomy.shape import Mask, box_of, solid, subgrid
from hierbmd.data.volume import LabelMap
from hierbmd.errors import BadRegion, SideConflict
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import Matrix, transform_points

FEMORAL_NECK_WIDTH_MM = 15.0
"""The width of Hologic's standard neck box (Hologic QDR reference manual; unverified)."""

REGION_IDS = {
    "total_hip_left": 301,
    "total_hip_right": 302,
    "femoral_neck_left": 303,
    "femoral_neck_right": 304,
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


def total_hip(femur: Mask, grid: Grid, axes: FemurAxes, options: RegionOptions | None = None) -> Mask:
    """The total-hip region of a femur whose axes are known; BadRegion when the bone ends above its distal plane."""
    options = options or RegionOptions()
    distal_mm = axes.lesser_trochanter_end_mm + options.below_trochanter_mm
    if distal_mm > axes.shaft.end_mm:
        raise BadRegion(
            f"the femur is cut off {axes.shaft.end_mm:.0f} mm below the head's centre, {distal_mm:.0f} mm are needed",
            mend="scan further down",
        )
    medial_mm = axes.neck.junction_mm + options.junction_shift_mm

    def inside(points: Matrix) -> Mask:
        return np.asarray((axes.along_neck_mm(points) >= medial_mm) & (axes.along_shaft_mm(points) <= distal_mm))

    return _where(femur, grid, inside)


def femoral_neck_region(femur: Mask, grid: Grid, axes: FemurAxes) -> Mask:
    """The femoral-neck region: the slab about the neck's narrowest section, without the trochanter's tip beside it."""

    def inside(points: Matrix) -> Mask:
        along = axes.along_neck_mm(points)
        offsets = points - axes.head.centre_world_mm
        across = np.linalg.norm(offsets - along[..., None] * axes.neck.direction, axis=-1)
        slab = np.abs(along - axes.neck.narrowest_mm) <= FEMORAL_NECK_WIDTH_MM / 2.0
        return np.asarray(slab & (across < 1.25 * axes.head.radius_mm))

    region = _where(femur, grid, inside)
    box = box_of(region)
    kept = np.zeros_like(region)
    kept[box] = solid(region[box]) & region[box]
    return kept


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
    if not answer.any():
        raise BadRegion("the region is empty", mend="check the femur's label")
    return answer
