"""What is true of a subject's bones, from its voxel truth: whole bones, femoral neck, total hip, L1 to L4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierbmd.anatomy.areal import Positioned, areal_bmd, volumetric_bmd_mg_cm3
from hierbmd.anatomy.femur import FemurAxes, Neck, femoral_head, femoral_neck, femur_axes
from hierbmd.anatomy.regions import femoral_neck_region, total_hip
from hierbmd.anatomy.shape import Mask, Sphere, box_of, solid, subgrid, unit_vector, world_points
from hierbmd.anatomy.spine import (
    LEVELS,
    WHOLE,
    SpineAxes,
    require_inside_scan,
    spine_axes,
    spine_regions,
    trabecular_region,
)
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, HierbmdError
from hierbmd.geometry import Grid
from hierbmd.rigid import Vector
from hierbmd.simulation.bone_density import bones_in

_CUT_REACH = 1.15
"""How far from the head's centre, in its radii, a cut femur's waist may be: whole ones have it at 0.8 to 1.0."""

_MM3_PER_CM3, _MM2_PER_CM2 = 1000.0, 100.0


def side_truth(density: Volume, labels: LabelMap, side: str, metal_in: tuple[str, ...] = ()) -> dict[str, Any]:
    """The true densities of one side's total hip and femoral neck; `refused` says why a region has none.

    The neck needs no shaft: where the scan cuts the femur above the lesser trochanter, its standard view is that of the
    neck and the body's long axis, and `femoral_neck_view` says so.
    """
    name = f"femur_{side}"
    if name not in labels.names_present:
        return {"refused": f"no {name} in the label map"}
    if name in metal_in:
        return {"refused": f"metal in {name}"}
    femur, grid = labels.mask(name), labels.grid
    told: dict[str, Any] = {}
    axes: FemurAxes | None = None
    try:
        axes = femur_axes(femur, grid)
        told |= _region_truth("total_hip", density, total_hip(femur, grid, axes), axes)
    except HierbmdError as error:
        told["refused"] = str(error)
    try:
        head, neck = (axes.head, axes.neck) if axes else _head_and_neck(femur, grid)
        region = femoral_neck_region(femur, grid, head, neck)
        told |= _region_truth("femoral_neck", density, region, axes or _ByTheBody(neck.direction))
        told["femoral_neck_view"] = "femur" if axes else "neck and body axis"
    except HierbmdError as error:
        told["femoral_neck_refused"] = str(error)
    return told


def spine_truth(density: Volume, labels: LabelMap, metal_in: tuple[str, ...] = ()) -> dict[str, Any]:
    """The true areal BMD of L1 to L4, together and by level, cut as DXA cuts them (`anatomy.spine`).

    With the density of each level's trabecular region; `refused` says why there is nothing, as where the CT is short.
    """
    try:
        axes = spine_axes(labels)
        regions = spine_regions(labels, axes)
        _require_whole_spine(regions, metal_in)
        areal = areal_bmd(density, regions[WHOLE], axes)
        by_level = {level: _level_truth(density, labels, regions, level, axes) for level in LEVELS}
    except HierbmdError as error:
        return {"refused": str(error)}
    whole = {"l1_l4_bmd_g_cm2": areal.bmd_g_cm2, "l1_l4_bmc_g": areal.bmc_g, "l1_l4_area_cm2": areal.area_cm2}
    return {**whole, "levels": by_level}


def _require_whole_spine(regions: Mapping[str, Mask], metal_in: tuple[str, ...]) -> None:
    if WHOLE not in regions:
        raise BadRegion("L1 to L4 are not all in the labels", where=", ".join(regions))
    require_inside_scan(regions[WHOLE], WHOLE)
    if metal := [level for level in LEVELS if f"vertebrae_{level}" in metal_in]:
        raise BadRegion("metal in the spine", where=", ".join(metal))


def _level_truth(
    density: Volume, labels: LabelMap, regions: Mapping[str, Mask], level: str, axes: SpineAxes
) -> dict[str, float]:
    areal = areal_bmd(density, regions[f"lumbar_{level.lower()}"], axes)
    core = trabecular_region(labels.mask(f"vertebrae_{level}"), labels.grid, axes.vertebrae[level])
    return {
        "bmd_g_cm2": areal.bmd_g_cm2,
        "bmc_g": areal.bmc_g,
        "area_cm2": areal.area_cm2,
        "trabecular_mg_cm3": volumetric_bmd_mg_cm3(density, core),
    }


def bones_truth(density: Volume, labels: LabelMap, metal_in: tuple[str, ...] = ()) -> dict[str, Any]:
    """Of each whole bone that the scan holds, by name: mineral, volume, mean density, and areal density from the front.

    The area is that of the bone's voxels seen along the index axis nearest to anteroposterior. A bone that the scan
    cuts is said to be `cut`: its figures are of the part in view. A bone with metal has no figures.
    """
    front = int(np.argmax(np.abs(density.grid.world_from_index[1, :3]) / density.grid.spacing_mm))
    pixel_mm2 = density.grid.voxel_mm3 / float(density.grid.spacing_mm[front])
    told: dict[str, Any] = {}
    for name in bones_in(labels):
        if name in metal_in:
            told[name] = {"refused": "metal"}
            continue
        mask = labels.mask(name)
        box = box_of(mask, margin=0)
        inside, values = mask[box], density.values[box]
        bmc_g = 1e-6 * density.grid.voxel_mm3 * float(values[inside].sum(dtype=np.float64))
        area_cm2 = float(np.count_nonzero(inside.any(axis=front))) * pixel_mm2 / _MM2_PER_CM2
        volume_cm3 = float(np.count_nonzero(inside)) * density.grid.voxel_mm3 / _MM3_PER_CM3
        told[name] = {
            "bmc_g": bmc_g,
            "volume_cm3": volume_cm3,
            "vbmd_mg_cm3": 1e3 * bmc_g / volume_cm3,
            "ap_area_cm2": area_cm2,
            "ap_bmd_g_cm2": bmc_g / area_cm2,
            "cut": any(s.start == 0 or s.stop == n for s, n in zip(box, mask.shape, strict=True)),
        }
    return told


def _region_truth(region_name: str, density: Volume, region: Mask, axes: Positioned) -> dict[str, float]:
    areal = areal_bmd(density, region, axes)
    return {
        f"{region_name}_bmd_g_cm2": areal.bmd_g_cm2,
        f"{region_name}_bmc_g": areal.bmc_g,
        f"{region_name}_area_cm2": areal.area_cm2,
        f"{region_name}_vbmd_mg_cm3": volumetric_bmd_mg_cm3(density, region),
    }


@dataclass(frozen=True)
class _ByTheBody:
    """The standard view of a femur whose shaft is not in view: the body's long axis stands in for it."""

    neck_direction: Vector

    @property
    def down(self) -> Vector:
        return np.array([0.0, 0.0, -1.0])

    @property
    def beam(self) -> Vector:
        return unit_vector(np.cross(-self.neck_direction, -self.down))


def _head_and_neck(femur: Mask, grid: Grid) -> tuple[Sphere, Neck]:
    """Head and neck of a femur that the scan cuts; BadRegion where even those are not there."""
    box = box_of(femur)
    bone, local = solid(femur[box]), subgrid(grid, box)
    head = femoral_head(bone, local)
    return head, femoral_neck(world_points(bone, local), head, float(local.voxel_mm3), reach=_CUT_REACH)
