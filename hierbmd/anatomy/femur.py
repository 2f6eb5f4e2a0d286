"""A proximal femur's own axes: the head's sphere, the neck, the shaft and the lesser trochanter, from the mask alone.

Nothing here looks at the world's axes or at the label's name: whatever the patient's pose or the voxels' order, the
same bone has the same axes. Which body side the bone is from is read off its handedness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks

from hierbmd.anatomy.shape import (
    Mask,
    Sphere,
    box_of,
    fit_sphere,
    inscribed_radius_mm,
    solid,
    subgrid,
    surface_points,
    world_points,
)
from hierbmd.errors import BadRegion
from hierbmd.geometry import Grid, Matrix, Side, Vector, transform_points

HEAD_RADIUS_MM = (15.0, 34.0)
"""Adult femoral head radii with a wide margin: diameters of 38 to 58 mm (Milner & Boldsen, J Forensic Sci 2012)."""

_LEAST_COVERAGE = 0.35
_STEP_MM = 1.0
_TROCHANTER_END = 2.9
"""Where the lesser trochanter ends in head radii below the head's centre along the shaft, in the mean of 26 femora
(gias2's shape model); used only where no bump is seen."""

_SHAFT_FROM = (2.6, 3.3)
_SHAFT_ROUNDS = 8
_TURNS = 4
_SHAFT_SPAN_MM = 60.0
_LEAST_SHAFT_MM = 12.0
_TROCHANTER_RANGE = (1.4, 4.0)
_TROCHANTER_BULGE_MM = 1.5
_SECTORS_DEG = np.arange(-180.0, 180.0, 15.0)


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
class Shaft:
    """The proximal shaft: an axis by a point (LPS mm) and a unit vector pointing distally; its mean radius.

    `end_mm` is how far along the axis below the head's centre the bone is whole.
    """

    point_world_mm: Vector
    direction: Vector
    radius_mm: float
    end_mm: float


@dataclass(frozen=True)
class FemurAxes:
    """One proximal femur. `lesser_trochanter_end_mm` is its distal end, along the shaft below the head's centre.

    `trochanter_found` says whether that end was seen as a bulge (else it is set by proportion); `side` is the body side
    by the bone's handedness, NONE when no bulge tells.
    """

    head: Sphere
    neck: Neck
    shaft: Shaft
    lesser_trochanter_end_mm: float
    trochanter_found: bool
    side: Side

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


def femur_axes(mask: Mask, grid: Grid) -> FemurAxes:
    """The axes of a femur from its mask (ni, nj, nk), which must reach to below the lesser trochanter.

    Errors: BadRegion says which part cannot be placed and why (femur cut off, not a femur); NotOrthogonal.
    """
    box = box_of(mask)
    bone, local = solid(mask[box]), subgrid(grid, box)
    head = femoral_head(bone, local)
    points = world_points(bone, local)
    neck = femoral_neck(points, head, float(local.voxel_mm3))
    shaft, (end_mm, found, bulge) = _shaft_and_trochanter(points, surface_points(bone, local), head, neck)
    side = _side_of(head, shaft, bulge) if found else Side.NONE
    return FemurAxes(head, neck, shaft, end_mm, found, side)


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


def femoral_neck(points_world_mm: Matrix, head: Sphere, voxel_mm3: float) -> Neck:
    """The neck's axis and waist, from bone voxels' centres: what leaves the head's sphere is the neck."""
    offsets = points_world_mm - head.centre_world_mm
    distance_mm = np.linalg.norm(offsets, axis=1)
    radius = head.radius_mm
    shell = (distance_mm > 1.15 * radius) & (distance_mm < 1.45 * radius)
    if np.count_nonzero(shell) * voxel_mm3 < 500.0:
        raise BadRegion("no femoral neck leaves the head", mend="is the whole proximal femur in the label map?")
    direction = _unit(np.mean(offsets[shell] / distance_mm[shell, None], axis=0))
    for _ in range(4):
        along_mm, area_mm2 = _sections(offsets, direction, radius, voxel_mm3)
        waist = int(np.argmin(area_mm2))
        near = np.abs(offsets @ direction - along_mm[waist]) < 0.2 * radius
        near &= _across(offsets, direction) < 1.1 * radius
        direction = _unit(offsets[near].mean(axis=0))
    neck_radius = float(np.sqrt(area_mm2[waist] / np.pi))
    if not 0.4 * radius < neck_radius < 0.97 * radius:
        raise BadRegion(
            f"no waist between head (radius {radius:.1f} mm) and trochanters (narrowest {neck_radius:.1f} mm)",
            mend="check the femur's label",
        )
    return Neck(direction, float(along_mm[waist]), neck_radius, float(np.sqrt(radius**2 - neck_radius**2)))


def _sections(
    offsets: Matrix, direction: Vector, radius: float, voxel_mm3: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas across the neck, mm2, smoothed over 3 mm, from 0.5 to 1.75 head radii along it."""
    along = (offsets @ direction)[_across(offsets, direction) < 1.1 * radius]
    edges = np.arange(0.5 * radius - 4.0, 1.75 * radius + 4.0, _STEP_MM)
    counts = np.histogram(along, edges)[0]
    area = ndimage.gaussian_filter1d(counts * voxel_mm3 / _STEP_MM, 1.5 / _STEP_MM)
    centres = (edges[1:] + edges[:-1]) / 2.0
    inside = (centres > 0.5 * radius) & (centres < 1.75 * radius)
    return centres[inside], area[inside]


Trochanter = tuple[float, bool, Vector]


def _shaft_and_trochanter(points: Matrix, surface: Matrix, head: Sphere, neck: Neck) -> tuple[Shaft, Trochanter]:
    """The shaft below the lesser trochanter, and the trochanter above it: each is found by the other, in turns."""
    offsets = points - head.centre_world_mm
    distance_mm = np.linalg.norm(offsets, axis=1)
    far = distance_mm > np.quantile(distance_mm, 0.95)
    towards = _unit(offsets[far].mean(axis=0) - neck.narrowest_mm * neck.direction)
    end_mm = _whole_until(offsets @ towards)
    highest, usual = (factor * head.radius_mm for factor in _SHAFT_FROM)
    shaft = _shaft(offsets, head, towards, max(highest, min(usual, end_mm - 30.0)))
    trochanter = _lesser_trochanter(surface, head, shaft)
    for _ in range(_TURNS):
        before_mm = trochanter[0]
        shaft = _shaft(offsets, head, shaft.direction, max(before_mm, min(usual, shaft.end_mm - 30.0)))
        trochanter = _lesser_trochanter(surface, head, shaft)
        if abs(trochanter[0] - before_mm) < _STEP_MM / 2.0:
            break
    _require_below(shaft.end_mm, trochanter[0])
    return shaft, trochanter


def _shaft(offsets: Matrix, head: Sphere, towards: Vector, start_mm: float) -> Shaft:
    """The line through the centroids of sections across it, from `start_mm` below the head's centre downwards."""
    direction = towards
    for _ in range(_SHAFT_ROUNDS):
        along = offsets @ direction
        end_mm = _whole_until(along)
        _require_below(end_mm, start_mm)
        inside = (along > start_mm) & (along < min(end_mm, start_mm + _SHAFT_SPAN_MM))
        centroids = _centroids(offsets[inside], along[inside])
        middle = centroids.mean(axis=0)
        new = _unit(np.linalg.svd(centroids - middle)[2][0])
        new = new if new @ direction > 0 else -new
        turned, direction = float(new @ direction), new
        if turned > 1 - 1e-12:
            break
    across_mm = _across(offsets[inside] - middle, direction)
    # A disc's mean squared distance from its centre is half its radius squared.
    radius_mm = float(np.sqrt(2.0 * np.mean(across_mm**2)))
    return Shaft(head.centre_world_mm + middle, direction, radius_mm, end_mm)


def _require_below(end_mm: float, start_mm: float) -> None:
    if end_mm - start_mm < _LEAST_SHAFT_MM:
        raise BadRegion(
            f"the femur is cut off {end_mm:.0f} mm below the head's centre, near or above the lesser trochanter",
            mend=f"a total hip needs the shaft to {start_mm + _LEAST_SHAFT_MM:.0f} mm or more: scan further down",
        )


def _whole_until(along: NDArray[np.float64]) -> float:
    """Up to where, along the shaft, sections are whole: the last of at least 0.8 of the median area of those above."""
    edges = np.arange(along.min(), along.max() + 2 * _STEP_MM, 2 * _STEP_MM)
    counts = np.histogram(along, edges)[0]
    filled = np.flatnonzero(counts > 0)
    tail = counts[max(filled[-1] - 15, 0) : filled[-1] + 1]
    whole = np.flatnonzero(tail > 0.8 * np.median(tail))
    return float(edges[max(filled[-1] - 15, 0) + whole[-1] + 1])


def _centroids(offsets: Matrix, along: NDArray[np.float64]) -> Matrix:
    bins = np.floor((along - along.min()) / (2 * _STEP_MM)).astype(int)
    counts = np.bincount(bins)
    sums = np.column_stack([np.bincount(bins, weights=offsets[:, axis]) for axis in range(3)])
    usable = counts > 0.5 * np.median(counts)
    return np.asarray(sums[usable] / counts[usable, None])


def _lesser_trochanter(surface: Matrix, head: Sphere, shaft: Shaft) -> Trochanter:
    """Where the lesser trochanter ends distally, whether it was seen, and the direction in which it bulges.

    Round the shaft's axis, the trochanter is the bump (in height, over the median reach of its level) that stands out
    most from above and below, within 90 degrees of the head's direction. It ends where a quarter of its height is left.
    No such bump: 2.9 head radii below the head's centre, by proportion.
    """
    medial = _medial(head, shaft)
    other = np.cross(shaft.direction, medial)
    offsets = surface - shaft.point_world_mm
    flat_mm, flat_other_mm = offsets @ medial, offsets @ other
    along = (surface - head.centre_world_mm) @ shaft.direction
    low, high = (factor * head.radius_mm for factor in _TROCHANTER_RANGE)
    levels = np.arange(low, min(high, shaft.end_mm - 3.0), _STEP_MM)
    reach, angle = np.hypot(flat_mm, flat_other_mm), np.degrees(np.arctan2(flat_other_mm, flat_mm))
    height = _heights(reach, angle, along - low, len(levels))
    best: tuple[float, float, float] = (_TROCHANTER_BULGE_MM, _TROCHANTER_END * head.radius_mm, 0.0)
    for sector, middle_deg in enumerate(_SECTORS_DEG):
        if abs(middle_deg) <= 90.0:
            peaks, about = find_peaks(height[:, sector], prominence=_TROCHANTER_BULGE_MM)
            for peak, prominence in zip(peaks, about["prominences"], strict=True):
                gone = np.flatnonzero(height[peak:, sector] < 0.25 * height[peak, sector])
                if prominence > best[0] and len(gone):
                    best = (float(prominence), float(levels[peak + gone[0]]), float(np.radians(middle_deg)))
    highest, end_mm, turn = best
    direction = np.asarray(np.cos(turn) * medial + np.sin(turn) * other)
    return end_mm, bool(highest > _TROCHANTER_BULGE_MM), direction


def _heights(
    reach: NDArray[np.float64], angle_deg: NDArray[np.float64], along_mm: NDArray[np.float64], levels: int
) -> NDArray[np.float64]:
    """How far the surface stands out over its level's median, mm: (levels, 24), by sectors 30 degrees wide.

    A value is the mean reach of what lies within 1.5 mm and 15 degrees; levels are 1 mm and sectors 15 degrees apart.
    """
    sectors = len(_SECTORS_DEG)
    level = np.floor(along_mm / _STEP_MM + 1.5).astype(int)
    inside = (level >= 0) & (level < levels + 2)
    sector = np.floor((angle_deg[inside] + 180.0) / 15.0).astype(int) % sectors
    cell, size = level[inside] * sectors + sector, (levels + 2) * sectors
    sums = [np.bincount(cell, weights=weights, minlength=size) for weights in (reach[inside], np.ones(len(cell)))]
    windows = [np.asarray(x, dtype=np.float64).reshape(-1, sectors) for x in sums]
    windows = [x[:-2] + x[1:-1] + x[2:] for x in windows]
    total, count = (x + np.roll(x, 1, axis=1) for x in windows)
    # Coarse voxels leave levels without surface: nothing stands out there.
    empty = ~np.any(count > 0, axis=1, keepdims=True)
    mean = np.where((count > 0) | empty, total / np.maximum(count, 1.0), np.nan)
    return np.nan_to_num(mean - np.nanmedian(mean, axis=1, keepdims=True))


def _side_of(head: Sphere, shaft: Shaft, bulge: Vector) -> Side:
    """Medial, superior and posterior (where the lesser trochanter points) are right-handed in a left femur only."""
    handed = float(np.cross(_medial(head, shaft), -shaft.direction) @ bulge)
    return Side.LEFT if handed > 0 else Side.RIGHT


def _medial(head: Sphere, shaft: Shaft) -> Vector:
    """The unit vector across the shaft towards the head."""
    to_head = head.centre_world_mm - shaft.point_world_mm
    return _unit(to_head - (to_head @ shaft.direction) * shaft.direction)


def _across(offsets: Matrix, direction: Vector) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(offsets - np.outer(offsets @ direction, direction), axis=1))


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
