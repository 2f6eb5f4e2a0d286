"""A proximal femur's own axes: the head's sphere, the neck, the shaft and the lesser trochanter, from the mask alone.

Nothing here looks at the world's axes or at the label's name: whatever the patient's pose or the voxels' order, the
same bone has the same axes. Which body side the bone is from is read off its handedness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shaft import Shaft, greater_trochanter_base, medial_direction, shaft_and_trochanter
from hierbmd.anatomy.shape import (
    Mask,
    Sphere,
    across_mm,
    box_of,
    fit_sphere,
    inscribed_radius_mm,
    solid,
    subgrid,
    surface_points,
    unit_vector,
    world_points,
)
from hierbmd.errors import BadRegion
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import Matrix, Vector, transform_points

HEAD_RADIUS_MM = (15.0, 34.0)
"""Adult femoral head radii with a wide margin: diameters of 38 to 58 mm (Milner & Boldsen, J Forensic Sci 2012)."""

_LEAST_COVERAGE = 0.35
_STEP_MM = 1.0
_FINE_MM = 3.0
"""At voxels up to this, what cannot be placed is the label's fault: a trochanter must stand out by as much."""


@dataclass(frozen=True)
class Neck:
    """The femoral neck: `direction` is a unit vector from the head's centre along it, distances are from that centre.

    `narrowest_mm` is where the section across is smallest and `radius_mm` that section's equivalent radius;
    `junction_mm` is where the head's sphere meets a cylinder of that radius.
    """

    direction: Vector
    narrowest_mm: float
    radius_mm: float
    junction_mm: float


@dataclass(frozen=True)
class FemurAxes:
    """One proximal femur. `lesser_trochanter_end_mm` is its distal end, along the shaft below the head's centre.

    `trochanter_found` says whether that end was seen as a bulge (else it is set by proportion); `side` is the body side
    by the bone's handedness, NONE when no bulge tells. `trochanter_base_world_mm` is the base of the greater trochanter
    on the bone's lateral outline in the frontal plane.
    """

    head: Sphere
    neck: Neck
    shaft: Shaft
    lesser_trochanter_end_mm: float
    trochanter_found: bool
    side: Side
    trochanter_base_world_mm: Vector

    def along_neck_mm(self, points_world_mm: Matrix) -> NDArray[np.float64]:
        """How far points (..., 3) lie from the head's centre along the neck."""
        return np.asarray((points_world_mm - self.head.centre_world_mm) @ self.neck.direction)

    def along_shaft_mm(self, points_world_mm: Matrix) -> NDArray[np.float64]:
        """How far points (..., 3) lie below the head's centre along the shaft."""
        return np.asarray((points_world_mm - self.head.centre_world_mm) @ self.shaft.direction)

    @property
    def neck_shaft_deg(self) -> float:
        """The angle between neck and shaft, about 125 degrees in adults."""
        return float(np.degrees(np.arccos(np.clip(-self.neck.direction @ self.shaft.direction, -1, 1))))

    @property
    def frontal_normal(self) -> Vector:
        """The unit normal of the plane that neck and shaft span, towards the front of the bone for a right femur."""
        normal = np.cross(-self.neck.direction, -self.shaft.direction)
        return np.asarray(normal / np.linalg.norm(normal))

    @property
    def down(self) -> Vector:
        """Downwards on an image of the standard view: along the shaft."""
        return self.shaft.direction

    @property
    def beam(self) -> Vector:
        """The beam of the standard view: across the plane of neck and shaft, as DXA turns the foot inward for it."""
        return self.frontal_normal


def femur_axes(mask: Mask, grid: Grid) -> FemurAxes:
    """The axes of a femur from its mask (ni, nj, nk), which must reach to below the lesser trochanter.

    Errors: BadRegion says which part cannot be placed and why (femur cut off, not a femur, and at voxels of more than
    3 mm that these may be the cause); NotOrthogonal.
    """
    box = box_of(mask)
    bone, local = solid(mask[box]), subgrid(grid, box)
    try:
        return _axes(bone, local)
    except BadRegion as error:
        coarsest_mm = float(grid.spacing_mm.max())
        if coarsest_mm <= _FINE_MM:
            raise
        raise BadRegion(
            f"{error.what}; voxels of {coarsest_mm:.1f} mm may be too coarse to tell",
            mend=f"a CT with voxels of {_FINE_MM:.0f} mm or less; else: {error.mend}",
        ) from None


def _axes(bone: Mask, local: Grid) -> FemurAxes:
    head = femoral_head(bone, local)
    points = world_points(bone, local)
    neck = femoral_neck(points, head, float(local.voxel_mm3))
    surface = surface_points(bone, local)
    shaft, (end_mm, found, bulge) = shaft_and_trochanter(
        points, surface, head=head, waist_offset_mm=neck.narrowest_mm * neck.direction
    )
    side = _side_of(head, shaft, bulge) if found else Side.NONE
    base = greater_trochanter_base(surface, head, shaft, below_mm=end_mm)
    return FemurAxes(head, neck, shaft, end_mm, found, side, base)


def femoral_head(bone: Mask, grid: Grid) -> Sphere:
    """The femoral head as a sphere: of the widest places in the bone, the one with most of a sphere around it."""
    radius_mm = inscribed_radius_mm(bone, grid)
    surface = surface_points(bone, grid)
    left = radius_mm.copy()
    places = transform_points(grid.world_from_index, np.moveaxis(np.indices(bone.shape), 0, -1).astype(np.float64))
    best: Sphere | None = None
    for _ in range(3):
        at = np.unravel_index(int(np.argmax(left)), left.shape)
        if left[at] < 0.6 * radius_mm.max():
            break
        sphere = fit_sphere(surface, places[at], float(left[at]))
        if best is None or sphere.coverage > best.coverage:
            best = sphere
        left[np.linalg.norm(places - places[at], axis=-1) < 2.0 * left[at]] = 0.0
    assert best is not None
    low, high = HEAD_RADIUS_MM
    if not low <= best.radius_mm <= high or best.coverage < _LEAST_COVERAGE:
        raise BadRegion(
            f"no femoral head: the best sphere has radius {best.radius_mm:.1f} mm, {best.coverage:.0%} of it seen",
            mend="is the head in the label map, and the spacing in mm?",
        )
    return best


def femoral_neck(points_world_mm: Matrix, head: Sphere, voxel_mm3: float, *, reach: float = 1.75) -> Neck:
    """The neck's axis and waist, from bone voxels' centres: what leaves the head's sphere is the neck.

    The waist is looked for up to `reach` head radii from the head's centre; less where the scan cuts what follows.
    """
    offsets = points_world_mm - head.centre_world_mm
    distance_mm = np.linalg.norm(offsets, axis=1)
    radius = head.radius_mm
    shell = (distance_mm > 1.15 * radius) & (distance_mm < 1.45 * radius)
    if np.count_nonzero(shell) * voxel_mm3 < 500.0:
        raise BadRegion("no femoral neck leaves the head", mend="is the whole proximal femur in the label map?")
    direction = unit_vector(np.mean(offsets[shell] / distance_mm[shell, None], axis=0))
    for _ in range(4):
        along_mm, area_mm2 = _sections(offsets, direction, radius, voxel_mm3, reach)
        waist = int(np.argmin(area_mm2))
        near = np.abs(offsets @ direction - along_mm[waist]) < 0.2 * radius
        near &= across_mm(offsets, direction) < 1.1 * radius
        direction = unit_vector(offsets[near].mean(axis=0))
    neck_radius = float(np.sqrt(area_mm2[waist] / np.pi))
    if not 0.4 * radius < neck_radius < 0.97 * radius:
        raise BadRegion(
            f"no waist between head (radius {radius:.1f} mm) and trochanters (narrowest {neck_radius:.1f} mm)",
            mend="check the femur's label",
        )
    return Neck(direction, float(along_mm[waist]), neck_radius, float(np.sqrt(radius**2 - neck_radius**2)))


def _sections(
    offsets: Matrix, direction: Vector, radius: float, voxel_mm3: float, reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas across the neck, mm2, smoothed over 3 mm, from 0.5 to `reach` head radii along it."""
    along = (offsets @ direction)[across_mm(offsets, direction) < 1.1 * radius]
    edges = np.arange(0.5 * radius - 4.0, 1.75 * radius + 4.0, _STEP_MM)
    counts = np.histogram(along, edges)[0]
    area = ndimage.gaussian_filter1d(counts * voxel_mm3 / _STEP_MM, 1.5 / _STEP_MM)
    centres = (edges[1:] + edges[:-1]) / 2.0
    inside = (centres > 0.5 * radius) & (centres < reach * radius)
    return centres[inside], area[inside]


def _side_of(head: Sphere, shaft: Shaft, bulge: Vector) -> Side:
    """Medial, superior and posterior (where the lesser trochanter points) are right-handed in a left femur only."""
    handed = float(np.cross(medial_direction(head, shaft), -shaft.direction) @ bulge)
    return Side.LEFT if handed > 0 else Side.RIGHT
