"""One hip of a patient, measured: bones checked, metal out, the region placed, its areal BMD known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierbmd.anatomy.areal import ArealBmd, MeasuredRegion, areal_bmd, cropped, measured_region
from hierbmd.anatomy.femur import FemurAxes, femur_axes
from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.options import RegionOptions
from hierbmd.anatomy.regions import HIP_REGIONS, hip_regions, require_side, shifted
from hierbmd.anatomy.shape import Mask, box_of, subgrid
from hierbmd.calibration.line import density_volume
from hierbmd.data.calibration import Calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadConfig, BadRegion, LabelsMismatch, SideConflict
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import transform_points

_LEAST_BONE_SHARE = 0.15
_BONE_HU = 150.0


@dataclass(frozen=True)
class Hip:
    """One side's bones on a grid cut to them, everything in world LPS mm.

    `density` (mg/cm3 of `density.unit`'s material) and the masks (ni, nj, nk) share `density.grid`. Metal and what
    touches it is in none of the masks; `metal_mm3` says how much there was. `regions` has every region of the hip, and
    `target` names the one that is asked for. `plane_shift_percent` is the largest change of its areal BMD when one cut
    plane is moved by 1 mm.
    """

    side: Side
    density: Volume
    femur: Mask
    pelvis: Mask
    regions: Mapping[str, MeasuredRegion]
    target: str
    axes: FemurAxes
    metal_mm3: float
    plane_shift_percent: float

    @property
    def region(self) -> Mask:
        """The mask of the region that is asked for."""
        return self.regions[self.target].mask

    @property
    def bmd(self) -> ArealBmd:
        """The areal BMD of the region that is asked for, at the standard view."""
        return self.regions[self.target].bmd

    @property
    def volumetric_mg_cm3(self) -> float:
        """The mean density of the region that is asked for."""
        return self.regions[self.target].volumetric_mg_cm3

    @property
    def has_metal(self) -> bool:
        """Whether metal was found in the femur or the hip bone."""
        return self.metal_mm3 > 0

    @property
    def bones(self) -> Mapping[str, Mask]:
        """The masks of the hip bone and the femur."""
        return {"hip": self.pelvis, "femur": self.femur}

    def carried(self, region: Mask) -> dict[str, Mask]:
        """Every region of the hip is a part of the femur and moves with it."""
        return {"femur": region}


def measure_hip(
    volume: Volume,
    labels: LabelMap,
    side: Side,
    calibration: Calibration,
    *,
    options: RegionOptions | None = None,
) -> Hip:
    """Measure one side of a CT in HU with labels on its grid, named hip_SIDE and femur_SIDE.

    Errors: LabelsMismatch (a bone missing, labels that do not lie on bone), SideConflict (left and right exchanged),
    BadRegion, BadConfig (a target that is no region of a hip), Uncalibrated, SuspectedUnit.
    """
    side, options = Side(side), options or RegionOptions()
    if options.region not in HIP_REGIONS:
        raise BadConfig("no region of a hip", where=options.region, mend=f"one of {', '.join(HIP_REGIONS)}")
    names = (f"femur_{side}", f"hip_{side}")
    if labels.grid != volume.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="read it with read_labels(onto=...)")
    ids = np.select([labels.ids == labels.id_of(name) for name in names], [1, 2])
    box = box_of(ids > 0)
    hu, grid, ids = volume.values[box], subgrid(volume.grid, box), ids[box]
    for name, mask in zip(names, (ids == 1, ids == 2), strict=True):
        require_bone(hu, mask, name)
    axes = femur_axes(ids == 1, grid)
    require_side(axes, side)
    require_medial_head(axes, ids == 2, grid, side)
    metal = metal_near(hu, ids > 0)
    femur, pelvis = (ids == 1) & ~metal, (ids == 2) & ~metal
    density = density_volume(Volume(hu, grid, volume.unit), calibration)
    masks = hip_regions(femur, grid, axes, options)
    regions = {name: measured_region(density, mask, axes) for name, mask in masks.items()}
    return Hip(
        side=side,
        density=density,
        femur=femur,
        pelvis=pelvis,
        regions=regions,
        target=options.region,
        axes=axes,
        metal_mm3=float(np.count_nonzero(metal & (ids > 0)) * grid.voxel_mm3),
        plane_shift_percent=_plane_shift_percent(density, femur, axes, regions[options.region].bmd, options),
    )


def require_bone(hu: np.ndarray, mask: Mask, name: str) -> None:
    """Raise LabelsMismatch when a label does not lie on bone: fewer than 15 % of its voxels reach 150 HU."""
    share = float(np.mean(hu[mask] > _BONE_HU)) if mask.any() else 0.0
    if share < _LEAST_BONE_SHARE:
        raise LabelsMismatch(
            f"the label {name} does not lie on bone: {share:.0%} of it is above {_BONE_HU:.0f} HU",
            mend="is it the label map of this CT?",
        )


def require_medial_head(axes: FemurAxes, pelvis: Mask, grid: Grid, side: Side) -> None:
    """Raise SideConflict or BadRegion unless the femur is where a femur of this side is, in patient coordinates.

    The neck leads from the head away from the body's middle: to the patient's left (+x) in a left femur. The head lies
    in the socket: no farther than two of its diameters from the hip bone of the same side.
    """
    leftwards = float(axes.neck.direction[0] - axes.neck.direction @ axes.shaft.direction * axes.shaft.direction[0])
    if (leftwards > 0) != (side == Side.LEFT):
        raise SideConflict(
            f"femur_{side} leads away from its head towards the patient's {'left' if leftwards > 0 else 'right'}",
            mend="left and right are exchanged in the labels or in the image's header: correct the file",
        )
    points = transform_points(grid.world_from_index, np.argwhere(pelvis).astype(np.float64))
    away_mm = float(np.min(np.linalg.norm(points - axes.head.centre_world_mm, axis=1)))
    if away_mm > 4.0 * axes.head.radius_mm:
        raise BadRegion(
            f"hip_{side} is {away_mm:.0f} mm away from the head of femur_{side}",
            mend="are the bones of one side named for the other?",
        )


def _plane_shift_percent(density: Volume, femur: Mask, axes: FemurAxes, bmd: ArealBmd, options: RegionOptions) -> float:
    changes = []
    density, femur = cropped(density, femur)
    for medial_mm, distal_mm in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
        moved = shifted(options, medial_mm=medial_mm, distal_mm=distal_mm)
        region = hip_regions(femur, density.grid, axes, moved)[options.region]
        changes.append(areal_bmd(density, region, axes).bmd_g_cm2 / bmd.bmd_g_cm2 - 1.0)
    return float(100.0 * np.max(np.abs(changes)))
