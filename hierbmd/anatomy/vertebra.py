"""A vertebra's own axes: end plates, walls of the body and where its arch is, from the mask alone.

Nothing here looks at the world's axes. A vertebra is symmetrical, so left is told from up and posterior by the world's
handedness: an image that was mirrored is not seen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import (
    Mask,
    across_mm,
    box_of,
    inscribed_radius_mm,
    solid,
    subgrid,
    surface_points,
    unit_vector,
    world_points,
)
from hierbmd.errors import BadRegion
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, Vector

BODY_RADIUS_MM = (7.0, 22.0)
"""The largest ball in an adult's lumbar or lower thoracic body, with a wide margin: half its height."""

_ROUNDS = 6
_STRIP_MM = 8.0
_LEAST_PLATE_POINTS = 12
_STEEPEST_PLATE_DEG = 35.0
_LEAST_ARCH_MM = 2.0
_PROFILE_MM = 0.5
_TIES = 6
"""Digits to which millimetres are rounded where voxels lie on a border: a moved grid must decide alike."""


@dataclass(frozen=True)
class Plate:
    """An end plate: its middle on the body's axis (LPS mm) and its unit normal, which points upwards for both."""

    middle_world_mm: Vector
    normal: Vector


@dataclass(frozen=True)
class Vertebra:
    """One vertebra: `centre_world_mm` is its body's; `up`, `posterior`, `left` are unit vectors, square to each other.

    `half_depth_mm` is from the centre to the front and back walls and `half_width_mm` to the side walls, both at
    mid-height; `half_rim_mm` is half of the body's largest width.
    """

    centre_world_mm: Vector
    up: Vector
    posterior: Vector
    top: Plate
    bottom: Plate
    half_depth_mm: float
    half_width_mm: float
    half_rim_mm: float

    @property
    def left(self) -> Vector:
        """The unit vector to the patient's left: posterior, up and left are right-handed in LPS."""
        return np.asarray(np.cross(self.posterior, self.up))

    @property
    def height_mm(self) -> float:
        """From end plate to end plate, at their middles."""
        return float((self.top.middle_world_mm - self.bottom.middle_world_mm) @ self.up)

    def local_mm(self, points_world_mm: Matrix) -> NDArray[np.float64]:
        """Points (..., 3) as (to the left, to the back, upwards) of the body's centre."""
        return np.asarray((points_world_mm - self.centre_world_mm) @ np.stack([self.left, self.posterior, self.up]).T)


def body_centre(mask: Mask, grid: Grid) -> Vector:
    """About the middle of a vertebra's body: where the largest balls fit; BadRegion when none of a body's size does."""
    box = box_of(mask)
    bone, local = solid(mask[box]), subgrid(grid, box)
    return _deepest(bone, local)[0]


def vertebra_axes(mask: Mask, grid: Grid, *, upwards: Vector | None = None) -> Vertebra:
    """The axes of a vertebra from its mask (ni, nj, nk), body and arch.

    `upwards` is roughly up, from the neighbours in the column; without it the body's own shape tells: it is lower than
    it is wide, and its arch hangs. Errors: BadRegion (cut off, not a vertebra); NotOrthogonal.
    """
    box = box_of(mask)
    bone, local = solid(mask[box]), subgrid(grid, box)
    centre, ball_mm = _deepest(bone, local)
    points, surface = world_points(bone, local), surface_points(bone, local)
    up = _up_of_body(points, centre, ball_mm) if upwards is None else unit_vector(upwards)
    spacing_mm = float(local.spacing_mm.max())
    # The body is about the centre: what moves the bone's own centroid off it is the arch.
    arch = points.mean(axis=0) - centre
    if np.linalg.norm(arch) < _LEAST_ARCH_MM:
        raise BadRegion("no vertebral arch behind the body", mend="is the whole vertebra in the label map?")
    for _ in range(_ROUNDS):
        posterior = _square_to(arch, up)
        core = surface[np.round(across_mm(surface - centre, up), _TIES) < 0.85 * ball_mm]
        top, bottom = (_plate(core, centre, sign * up, up) for sign in (1.0, -1.0))
        up = unit_vector(top.normal + bottom.normal)
        posterior = _square_to(posterior, up)
        centre = centre + ((top.middle_world_mm + bottom.middle_world_mm) / 2.0 - centre) @ up * up
        left = np.cross(posterior, up)
        height_mm = float((top.middle_world_mm - bottom.middle_world_mm) @ up)
        middle = (up, 0.5 * height_mm)
        behind_mm, half_depth_mm = _span_mm(points - centre, posterior, ((left, _STRIP_MM), middle), spacing_mm)
        centre = centre + behind_mm * posterior
        aside_mm, half_width_mm = _span_mm(points - centre, left, ((posterior, _STRIP_MM), middle), spacing_mm)
        centre = centre + aside_mm * left
        offsets = points - centre
        behind = np.round(offsets @ posterior, _TIES) > half_depth_mm + spacing_mm
        # Transverse processes and what an L5 has for them are seldom alike on both sides.
        behind &= np.round(np.abs(offsets @ left), _TIES) < half_width_mm
        if not behind.any():
            raise BadRegion("no vertebral arch behind the body", mend="is the whole vertebra in the label map?")
        arch = offsets[behind].mean(axis=0)
    front = np.abs((offsets @ left)[np.round(offsets @ posterior, _TIES) < 0.3 * half_depth_mm])
    rim_mm = max(half_width_mm, float(np.quantile(front, 0.995)) + spacing_mm / 2.0)
    top, bottom = (_plate(core, centre, sign * up, up) for sign in (1.0, -1.0))
    return Vertebra(centre, up, posterior, top, bottom, half_depth_mm, half_width_mm, rim_mm)


def _deepest(bone: Mask, grid: Grid) -> tuple[Vector, float]:
    radius_mm = inscribed_radius_mm(bone, grid)
    ball_mm = float(radius_mm.max())
    low, high = BODY_RADIUS_MM
    if not low <= ball_mm <= high:
        raise BadRegion(
            f"no vertebral body: the largest ball in it has a radius of {ball_mm:.1f} mm",
            mend="is the body in the label map, and the spacing in mm?",
        )
    return world_points(solid(radius_mm > 0.85 * ball_mm), grid).mean(axis=0), ball_mm


def _up_of_body(points: Matrix, centre: Vector, ball_mm: float) -> Vector:
    """A body's shortest axis, turned so that the arch hangs below the body's middle."""
    near = points[np.linalg.norm(points - centre, axis=1) < 1.7 * ball_mm] - centre
    up = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)[2][2]
    hangs = ((points - centre) @ up)[np.linalg.norm(points - centre, axis=1) > 2.2 * ball_mm]
    return np.asarray(-up if hangs.sum() > 0 else up)


def _square_to(vector: Vector, axis: Vector) -> Vector:
    return unit_vector(vector - (vector @ axis) * axis)


def _plate(core: Matrix, centre: Vector, towards: Vector, up: Vector) -> Plate:
    """The plane through the surface of one end of the body, about its axis; its normal points upwards."""
    offsets = core - centre
    height = offsets @ towards
    end = np.round(height, _TIES) > 0.5 * np.quantile(height, 0.98) if len(height) else height > 0
    if np.count_nonzero(end) < _LEAST_PLATE_POINTS:
        raise BadRegion("an end plate is not in the scan", mend="scan the whole vertebra")
    points = offsets[end]
    for _ in range(3):
        middle = points.mean(axis=0)
        normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
        residual = np.abs((points - middle) @ normal)
        kept = residual <= max(3.0 * float(np.median(residual)), 1e-3)
        if kept.all() or np.count_nonzero(kept) < _LEAST_PLATE_POINTS:
            break
        points = points[kept]
    normal = normal if normal @ up > 0 else -normal
    if normal @ up < np.cos(np.radians(_STEEPEST_PLATE_DEG)):
        raise BadRegion("an end plate is not across the body", mend="check the vertebra's label")
    return Plate(centre + (middle @ normal) / (up @ normal) * up, normal)


def _span_mm(
    offsets: Matrix, direction: Vector, strips: tuple[tuple[Vector, float], ...], spacing_mm: float
) -> tuple[float, float]:
    """The bone through the origin along a direction: where its middle is and half its length, mm.

    `offsets` (n, 3) are voxel centres. Strips (axis, full width mm) bound what is looked at; the bone ends where half
    of what is about its middle is left, on a profile smoothed by the voxels' size.
    """
    inside = np.ones(len(offsets), dtype=bool)
    for axis, width_mm in strips:
        inside &= np.round(np.abs(offsets @ axis), _TIES) < max(width_mm, 2.0 * spacing_mm) / 2.0
    reach = round(60.0 / _PROFILE_MM)
    place = (offsets @ direction)[inside] / _PROFILE_MM + reach
    place = place[(place > 0) & (place < 2 * reach)]
    # Each voxel counts in the two steps beside it by nearness, so that nothing hangs on where a step begins.
    left, share = np.floor(place).astype(int), place % 1.0
    counts = np.bincount(left, 1.0 - share, 2 * reach + 1) + np.bincount(left + 1, share, 2 * reach + 1)
    profile = ndimage.gaussian_filter1d(counts, 0.6 * spacing_mm / _PROFILE_MM)
    near = round(_STRIP_MM / 2.0 / _PROFILE_MM)
    half = 0.5 * float(profile[reach - near : reach + near + 1].mean())
    ends_mm = []
    for side in (profile[: reach + 1][::-1], profile[reach:]):
        empty = np.flatnonzero(side < half)
        if half == 0 or not len(empty) or empty[0] == 0:
            raise BadRegion("a vertebral body without walls", mend="check the vertebra's label")
        n = int(empty[0])
        ends_mm.append((n - 1 + (side[n - 1] - half) / (side[n - 1] - side[n])) * _PROFILE_MM)
    return float(ends_mm[1] - ends_mm[0]) / 2.0, float(ends_mm[1] + ends_mm[0]) / 2.0
