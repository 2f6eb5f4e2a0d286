"""Density-measuring regions of the lumbar spine, cut in 3D as DXA cuts them on an AP projection.

L1 to L4, each and together. As on an AP scan, a level is all vertebral bone between two disc levels, whichever vertebra
it belongs to (body, arch, and the processes of the neighbour above that project there), between the body's side
borders: what stands out beyond them, the transverse processes, is cut off. A cut is a plane along the beam, through the
middle of the disc, tilted sideways as its two end plates are on average. Where no neighbour is labelled, or the scan
cuts it, the cut is half a disc beyond the vertebra's own end plate.

The beam of the standard view runs from front to back, square to the column of bodies and to their mean lateral axis:
DXA flattens the lordosis by lifting the legs.

Volumetric: the body (in front of its back wall) and QCT's trabecular region, an elliptic cylinder 9 mm high at
mid-height with two thirds of the body's width and depth. Sources: docs/regions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hierbmd.anatomy.areal import MeasuredRegion, measured_region, volumetric_bmd_mg_cm3
from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.shape import Mask, box_of, subgrid, unit_vector
from hierbmd.anatomy.vertebra import Vertebra, body_centre, vertebra_axes
from hierbmd.calibration.line import density_volume
from hierbmd.data.calibration import Calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion, LabelsMismatch, SideConflict
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import Matrix, Vector, transform_points

COLUMN = ("T12", "L1", "L2", "L3", "L4", "L5")
"""The vertebrae that the regions of L1 to L4 need, from above."""

LEVELS = COLUMN[1:5]
WHOLE = "lumbar_l1_l4"
SPINE_IDS = {
    kind: {f"{kind}_{level.lower()}": first + n for n, level in enumerate(LEVELS)}
    for kind, first in (("lumbar", 311), ("vertebral_body", 321), ("trabecular", 331))
}
"""Ids of the regions in the label maps that `hierbmd segment` writes, one map a kind, beside those of the hips."""

TRABECULAR_HEIGHT_MM, TRABECULAR_SHARE = 9.0, 2.0 / 3.0
"""QCT's region: a slab of 8 to 10 mm at mid-height, inside the cortex (unverified; docs/regions.md)."""

_DISC_MM = 8.0
_TILTED_DEG = 60.0


@dataclass(frozen=True)
class SpineAxes:
    """A lumbar column: its vertebrae by name (L1), upwards along it, and its mean lateral axis, square to that.

    `cuts` has, by level, a point on the lower and on the upper cut with their unit normals, which point upwards.
    """

    vertebrae: Mapping[str, Vertebra]
    up: Vector
    left: Vector
    cuts: Mapping[str, tuple[tuple[Vector, Vector], tuple[Vector, Vector]]]

    @property
    def down(self) -> Vector:
        """Downwards on an image of the standard view: along the column."""
        return -self.up

    @property
    def beam(self) -> Vector:
        """The beam of the standard view: from front to back."""
        return np.asarray(np.cross(self.up, self.left))


def spine_axes(labels: LabelMap) -> SpineAxes:
    """The axes of a lumbar column from labels named vertebrae_L1 and so on: any of L1 to L4, and their neighbours.

    A neighbour (T12, L5) that the scan cuts is as good as none. Errors: LabelsMismatch (none of L1 to L4), BadRegion
    names the vertebra.
    """
    present = [name for name in COLUMN if f"vertebrae_{name}" in labels.names_present]
    if not any(name in LEVELS for name in present):
        raise LabelsMismatch("none of the vertebrae L1 to L4 in the label map", mend="names as TotalSegmentator v2")
    centres = {}
    vertebrae = {}
    for name in present:
        try:
            centres[name] = body_centre(labels.mask(f"vertebrae_{name}"), labels.grid)
        except BadRegion:
            if name in LEVELS:
                raise
    for name in list(centres):
        try:
            upwards = _upwards(name, centres)
            vertebrae[name] = vertebra_axes(labels.mask(f"vertebrae_{name}"), labels.grid, upwards=upwards)
        except BadRegion as error:
            if name in LEVELS:
                raise BadRegion(error.what, where=f"vertebrae_{name}", mend=error.mend) from None
    ours = [vertebrae[name] for name in vertebrae if name in LEVELS]
    up = ours[0].up if len(ours) == 1 else unit_vector(ours[0].centre_world_mm - ours[-1].centre_world_mm)
    left = np.mean([one.left for one in ours], axis=0)
    left = unit_vector(left - (left @ up) * up)
    return SpineAxes(vertebrae, up, left, _cuts(vertebrae, np.cross(up, left)))


def spine_regions(labels: LabelMap, axes: SpineAxes) -> dict[str, Mask]:
    """The levels by name (lumbar_l1, ...), and lumbar_l1_l4 where all four are there; masks (ni, nj, nk)."""
    grid = labels.grid
    bone = np.zeros(grid.shape, dtype=bool)
    for name in COLUMN:
        if f"vertebrae_{name}" in labels.names_present:
            bone |= labels.mask(f"vertebrae_{name}")
    box = box_of(bone)
    points = _places(subgrid(grid, box))
    across = unit_vector(np.cross(axes.beam, axes.up))
    levels = {}
    for name in [name for name in LEVELS if name in axes.vertebrae]:
        vertebra, ((below, below_normal), (above, above_normal)) = axes.vertebrae[name], axes.cuts[name]
        inside = ((points - below) @ below_normal >= 0) & ((points - above) @ above_normal < 0)
        along = unit_vector(np.cross(axes.beam, below_normal + above_normal))
        along = along if along @ across > 0 else -along
        inside &= np.abs((points - vertebra.centre_world_mm) @ along) <= vertebra.half_rim_mm
        region = np.zeros(grid.shape, dtype=bool)
        region[box] = bone[box] & inside
        levels[f"lumbar_{name.lower()}"] = region
    if len(levels) == len(LEVELS):
        levels[WHOLE] = np.any(list(levels.values()), axis=0)
    return levels


def vertebral_body(mask: Mask, grid: Grid, vertebra: Vertebra) -> Mask:
    """The body of a vertebra: what of its mask is in front of the body's back wall."""
    return _within(mask, grid, vertebra, lambda local: local[..., 1] <= vertebra.half_depth_mm)


def trabecular_region(mask: Mask, grid: Grid, vertebra: Vertebra) -> Mask:
    """QCT's elliptic cylinder of trabecular bone at the body's mid-height."""
    width_mm, depth_mm = (TRABECULAR_SHARE * half for half in (vertebra.half_width_mm, vertebra.half_depth_mm))

    def inside(local: Matrix) -> Mask:
        ellipse = (local[..., 0] / width_mm) ** 2 + (local[..., 1] / depth_mm) ** 2
        return np.asarray((np.abs(local[..., 2]) <= TRABECULAR_HEIGHT_MM / 2.0) & (ellipse <= 1.0))

    return _within(mask, grid, vertebra, inside)


def spine_maps(labels: LabelMap) -> tuple[dict[str, LabelMap], SpineAxes]:
    """The regions of L1 to L4 as a label map a kind (lumbar, vertebral_body, trabecular), with the ids of SPINE_IDS.

    Errors: as `spine_axes`, SideConflict, and BadRegion where the scan cuts a level off.
    """
    axes = spine_axes(labels)
    require_upright(axes)
    levels = spine_regions(labels, axes)
    ids = {kind: np.zeros(labels.grid.shape, dtype=np.uint16) for kind in SPINE_IDS}
    for name in [name for name in LEVELS if name in axes.vertebrae]:
        level = f"lumbar_{name.lower()}"
        require_inside_scan(levels[level], level)
        bone, own = labels.mask(f"vertebrae_{name}"), axes.vertebrae[name]
        masks = {
            "lumbar": levels[level],
            "vertebral_body": vertebral_body(bone, labels.grid, own),
            "trabecular": trabecular_region(bone, labels.grid, own),
        }
        for kind, mask in masks.items():
            ids[kind][mask] = SPINE_IDS[kind][f"{kind}_{name.lower()}"]
    return {kind: LabelMap(one, labels.grid, SPINE_IDS[kind]) for kind, one in ids.items()}, axes


@dataclass(frozen=True)
class Spine:
    """A measured lumbar spine on the CT's grid: `regions` by name, trabecular density by level in mg/cm3, and metal.

    `density` is in mg/cm3 of its unit's material. Metal and what touches it is in none of the masks. `vertebrae` are
    the masks of L1 to L4 and their neighbours, those that are labelled; `target` is the region that is asked for.
    """

    density: Volume
    axes: SpineAxes
    vertebrae: Mapping[str, Mask]
    regions: Mapping[str, MeasuredRegion]
    target: str
    trabecular_mg_cm3: Mapping[str, float]
    metal_mm3: float
    side: Side = Side.NONE

    @property
    def bones(self) -> Mapping[str, Mask]:
        """The masks of L1 to L4."""
        return {name: self.vertebrae[name] for name in LEVELS if name in self.vertebrae}

    def carried(self, region: Mask) -> dict[str, Mask]:
        """A region's parts by the vertebra that each is of; what is of T12 moves with L1, what is of L5 with L4."""
        movers = {**{name: name for name in LEVELS}, "T12": LEVELS[0], "L5": LEVELS[-1]}
        parts: dict[str, Mask] = {}
        for name, mask in self.vertebrae.items():
            part = region & mask
            if part.any():
                mover = movers[name]
                parts[mover] = parts[mover] | part if mover in parts else part
        return parts


def measure_spine(volume: Volume, labels: LabelMap, calibration: Calibration, *, target: str = WHOLE) -> Spine:
    """Measure L1 to L4 of a CT in HU with labels on its grid, each and together; `target` is the region asked for.

    Errors: LabelsMismatch, SideConflict (upside down, or front and back exchanged), BadRegion, Uncalibrated,
    SuspectedUnit.
    """
    if labels.grid != volume.grid:
        raise LabelsMismatch("the label map is not on the CT's grid", mend="read it with read_labels(onto=...)")
    names = [name for name in (f"vertebrae_{one}" for one in COLUMN) if name in labels.names_present]
    if not names:
        raise LabelsMismatch("none of the vertebrae L1 to L4 in the label map", mend="names as TotalSegmentator v2")
    bone = np.isin(labels.ids, [labels.id_of(name) for name in names])
    box = box_of(bone)
    grid, hu = subgrid(volume.grid, box), volume.values[box]
    here = LabelMap(np.where(bone[box], labels.ids[box], 0), grid, {name: labels.id_of(name) for name in names})
    axes = spine_axes(here)
    require_upright(axes)
    masks = spine_regions(here, axes)
    for name, mask in masks.items():
        whole = np.zeros(volume.grid.shape, dtype=bool)
        whole[box] = mask
        require_inside_scan(whole, name)
    metal = metal_near(hu, here.ids > 0)
    density = density_volume(Volume(hu, grid, volume.unit), calibration)
    return Spine(
        density=density,
        axes=axes,
        vertebrae={name: here.mask(f"vertebrae_{name}") & ~metal for name in COLUMN if f"vertebrae_{name}" in names},
        target=target,
        regions={name: measured_region(density, mask & ~metal, axes) for name, mask in masks.items()},
        trabecular_mg_cm3={
            name: volumetric_bmd_mg_cm3(density, trabecular_region(here.mask(f"vertebrae_{name}") & ~metal, grid, one))
            for name, one in axes.vertebrae.items()
            if name in LEVELS
        },
        metal_mm3=float(np.count_nonzero(metal & (here.ids > 0)) * grid.voxel_mm3),
    )


def require_upright(axes: SpineAxes) -> None:
    """Raise SideConflict unless the column is as a patient's is in LPS: L1 above L4, the arches behind the bodies."""
    least = np.cos(np.radians(_TILTED_DEG))
    if axes.up[2] < least or axes.beam[1] < least:
        what = "L4 is not below L1" if axes.up[2] < least else "the arches are not behind the bodies"
        raise SideConflict(
            f"{what} in the patient's coordinates",
            mend="the labels are numbered upwards, or the image's header is wrong: correct the file",
        )


def _upwards(name: str, centres: Mapping[str, Vector]) -> Vector | None:
    """Along the column at a vertebra: from the body below it to the one above, those that there are."""
    there = [one for one in COLUMN if one in centres]
    n = there.index(name)
    above, below = there[max(n - 1, 0)], there[min(n + 1, len(there) - 1)]
    return None if above == below else unit_vector(centres[above] - centres[below])


def _cuts(
    vertebrae: Mapping[str, Vertebra], beam: Vector
) -> dict[str, tuple[tuple[Vector, Vector], tuple[Vector, Vector]]]:
    """By level, the lower and the upper cut: a point, and the normal that points upwards."""
    both = [(vertebrae[a], vertebrae[b]) for a, b in pairwise(COLUMN) if a in vertebrae and b in vertebrae]
    gaps = [float((a.bottom.middle_world_mm - b.top.middle_world_mm) @ (a.up + b.up)) / 2.0 for a, b in both]
    half_disc_mm = float(np.clip(np.mean(gaps), 0.0, 2.0 * _DISC_MM)) / 2.0 if gaps else _DISC_MM / 2.0

    def between(upper: Vertebra | None, lower: Vertebra | None) -> tuple[Vector, Vector]:
        if upper is None or lower is None:
            own = upper or lower
            assert own is not None
            end = own.bottom.middle_world_mm if lower is None else own.top.middle_world_mm
            point = end + (-half_disc_mm if lower is None else half_disc_mm) * own.up
            up = own.bottom.normal if lower is None else own.top.normal
        else:
            point = (upper.bottom.middle_world_mm + lower.top.middle_world_mm) / 2.0
            up = upper.bottom.normal + lower.top.normal
        return point, unit_vector(up - (up @ beam) * beam)

    cuts = {}
    for above, name, below in zip(COLUMN, COLUMN[1:], COLUMN[2:], strict=False):
        if name in vertebrae:
            own = vertebrae[name]
            cuts[name] = (between(own, vertebrae.get(below)), between(vertebrae.get(above), own))
    return cuts


def _within(mask: Mask, grid: Grid, vertebra: Vertebra, inside: Callable[[Matrix], Mask]) -> Mask:
    box = box_of(mask)
    answer = np.zeros_like(mask)
    answer[box] = mask[box] & inside(vertebra.local_mm(_places(subgrid(grid, box))))
    return answer


def _places(grid: Grid) -> Matrix:
    return transform_points(grid.world_from_index, np.moveaxis(np.indices(grid.shape), 0, -1).astype(np.float64))


def require_inside_scan(region: Mask, name: str) -> None:
    """Raise BadRegion when a region reaches the rim of its CT: it is cut off there."""
    touched = [bool(np.take(region, end, axis=axis).any()) for axis in range(3) for end in (0, region.shape[axis] - 1)]
    if any(touched):
        raise BadRegion(f"{name} is cut off by the end of the scan", mend="scan the whole level")
