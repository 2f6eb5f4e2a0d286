"""The proximal shaft of a femur and the lesser trochanter on it, from the bone's voxels and surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from hierbmd.anatomy.shape import Sphere, across_mm, unit_vector
from hierbmd.errors import BadRegion
from hierbmd.rigid import Matrix, Vector

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
_OUTLINE_STEP_MM, _SHAFT_BESIDE_MM, _LEAST_HEIGHT_MM = 3.0, 12.0, 3.0
_TROCHANTER_BULGE_MM = 1.5
_SECTORS_DEG = np.arange(-180.0, 180.0, 15.0)


@dataclass(frozen=True)
class Shaft:
    """The proximal shaft: an axis by a point (LPS mm) and a unit vector pointing distally; its mean radius.

    `end_mm` is how far along the axis below the head's centre the bone is whole.
    """

    point_world_mm: Vector
    direction: Vector
    radius_mm: float
    end_mm: float


Trochanter = tuple[float, bool, Vector]
"""Where the lesser trochanter ends (mm below the head's centre along the shaft), whether it was seen, where it points.
"""


def shaft_and_trochanter(
    points: Matrix, surface: Matrix, *, head: Sphere, waist_offset_mm: Vector
) -> tuple[Shaft, Trochanter]:
    """The shaft below the lesser trochanter, and the trochanter above it: each is found by the other, in turns.

    `points` (n, 3) are the bone's voxel centres, `surface` (m, 3) lies on it, LPS mm; `waist_offset_mm` leads from the
    head's centre to the neck's narrowest section. BadRegion when the shaft is cut off.
    """
    offsets = points - head.centre_world_mm
    distance_mm = np.linalg.norm(offsets, axis=1)
    far = distance_mm > np.quantile(distance_mm, 0.95)
    towards = unit_vector(offsets[far].mean(axis=0) - waist_offset_mm)
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
        new = unit_vector(np.linalg.svd(centroids - middle)[2][0])
        new = new if new @ direction > 0 else -new
        turned, direction = float(new @ direction), new
        if turned > 1 - 1e-12:
            break
    off_axis_mm = across_mm(offsets[inside] - middle, direction)
    # A disc's mean squared distance from its centre is half its radius squared.
    radius_mm = float(np.sqrt(2.0 * np.mean(off_axis_mm**2)))
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
    medial = medial_direction(head, shaft)
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


def greater_trochanter_base(surface: Matrix, head: Sphere, shaft: Shaft, *, below_mm: float) -> Vector:
    """The base of the greater trochanter on the bone's lateral outline, a point in LPS mm.

    The outline is the farthest that the surface (n, 3) reaches away from the head at each level along the shaft; the
    trochanter's height is over the shaft's own reach about the lesser trochanter's end (`below_mm` under the head's
    centre). Its base is where, going up, the outline first stands out by a quarter of that height. BadRegion where no
    trochanter stands out: the outline rises by less than 3 mm, or only below the lesser trochanter.
    """
    lateral = -medial_direction(head, shaft)
    reach_mm = (surface - shaft.point_world_mm) @ lateral
    along_mm = (surface - head.centre_world_mm) @ shaft.direction
    step_mm = _OUTLINE_STEP_MM
    levels = np.arange(min(0.0, float(along_mm.min())), min(below_mm + _SHAFT_BESIDE_MM, shaft.end_mm), step_mm)
    index = np.floor((along_mm - levels[0]) / step_mm).astype(int)
    inside = (index >= 0) & (index < len(levels))
    outline = np.full(len(levels), -np.inf)
    np.maximum.at(outline, index[inside], reach_mm[inside])
    beside_mm = float(np.median(outline[levels > below_mm - _SHAFT_BESIDE_MM]))
    height_mm = float(outline.max()) - beside_mm
    stands_out = outline > beside_mm + 0.25 * height_mm
    # From below, past what is a single level's roughness: two levels in a row.
    rows = np.flatnonzero(stands_out[1:] & stands_out[:-1]) + 1
    if height_mm < _LEAST_HEIGHT_MM or not len(rows) or levels[rows[-1]] > below_mm:
        raise BadRegion(
            f"no greater trochanter stands out from the femur's lateral outline ({height_mm:.0f} mm at most)",
            mend="check the femur's label: is its trochanter whole, and is nothing else in it?",
        )
    row = int(rows[-1])
    middle = shaft.point_world_mm + ((head.centre_world_mm - shaft.point_world_mm) @ shaft.direction) * shaft.direction
    return np.asarray(middle + (levels[row] + step_mm / 2.0) * shaft.direction + outline[row] * lateral)


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


def medial_direction(head: Sphere, shaft: Shaft) -> Vector:
    """The unit vector across the shaft towards the head."""
    to_head = head.centre_world_mm - shaft.point_world_mm
    return unit_vector(to_head - (to_head @ shaft.direction) * shaft.direction)
