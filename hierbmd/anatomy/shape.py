"""Shape measurements on a mask in world millimetres: surface points, inscribed balls, sphere fits, sections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.errors import BadRegion
from hierbmd.geometry import Grid
from hierbmd.rigid import Matrix, Vector, transform_points

Mask = NDArray[np.bool_]

_FIT_ROUNDS = 25
_LEAST_SURFACE_POINTS = 50


@dataclass(frozen=True)
class Sphere:
    """A sphere fitted to part of a surface: centre in LPS mm, radius, root mean square residual and what it covers.

    `coverage` is the share of the whole sphere's directions in which the surface lies on it.
    """

    centre_world_mm: Vector
    radius_mm: float
    residual_mm: float
    coverage: float


def solid(mask: Mask) -> Mask:
    """The largest connected part of a mask, its holes filled."""
    return np.asarray(ndimage.binary_fill_holes(largest_part(mask)))


def largest_part(mask: Mask) -> Mask:
    """The largest part of a mask that is connected by faces; empty for an empty one."""
    parts, count = ndimage.label(mask)
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))) if count else np.zeros_like(mask)


def box_of(mask: Mask, *, margin: int = 2) -> tuple[slice, slice, slice]:
    """The index box of a mask, grown by `margin` voxels and kept on the grid; BadRegion for an empty mask."""
    # The last axis is reduced once, and only for voxels of the rows that hold any: whole CTs come through here often.
    rows = np.any(mask, axis=2)
    if not rows.any():
        raise BadRegion("an empty bone mask", mend="check the label map")
    lines = (rows.any(axis=1), rows.any(axis=0), np.any(mask[rows], axis=0))
    held = [np.flatnonzero(line) for line in lines]
    first, second, third = (
        slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + 1 + margin, n))
        for at, n in zip(held, mask.shape, strict=True)
    )
    return first, second, third


def subgrid(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """The grid of an index box of a grid; every voxel stays where it is."""
    shift = np.eye(4)
    shift[:3, 3] = [s.start for s in box]
    ni, nj, nk = (s.stop - s.start for s in box)
    return Grid((ni, nj, nk), grid.world_from_index @ shift)


def world_points(mask: Mask, grid: Grid) -> Matrix:
    """The voxel centres of a mask, (n, 3), LPS mm."""
    return transform_points(grid.world_from_index, np.argwhere(mask).astype(np.float64))


def surface_points(mask: Mask, grid: Grid) -> Matrix:
    """Points (n, 3) in LPS mm midway between neighbouring voxels of which one is in the mask; the grid's rim is none.

    On average these lie on the true surface, while the outermost voxels' centres lie half a voxel inside it.
    """
    points = []
    for axis in range(3):
        crossed = np.argwhere(np.diff(mask.astype(np.int8), axis=axis)).astype(np.float64)
        crossed[:, axis] += 0.5
        points.append(crossed)
    return transform_points(grid.world_from_index, np.concatenate(points))


def inscribed_radius_mm(mask: Mask, grid: Grid) -> NDArray[np.float64]:
    """At each voxel of an orthogonal grid the radius of the largest ball around it inside the mask, mm."""
    grid.require_orthogonal()
    distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=grid.spacing_mm)
    return np.asarray(distance[1:-1, 1:-1, 1:-1])


def fit_sphere(surface_world_mm: Matrix, centre_world_mm: Vector, radius_mm: float) -> Sphere:
    """The sphere that part of a surface lies on, from a rough start: least squares on the points near it, repeated.

    The points within 8 % of the radius (at least 1.2 mm) of the sphere are kept each time, so that what is not
    spherical (the neck, osteophytes) drops out. BadRegion when too few points are left.
    """
    centre, radius = np.array(centre_world_mm, dtype=np.float64), float(radius_mm)
    tolerance_mm = 0.25 * radius
    for _ in range(_FIT_ROUNDS):
        near = _near(surface_world_mm, centre, radius, tolerance_mm)
        new_centre, new_radius = _algebraic_sphere(surface_world_mm[near])
        moved_mm = float(np.linalg.norm(new_centre - centre)) + abs(new_radius - radius)
        centre, radius = new_centre, new_radius
        final_mm = max(0.08 * radius, 1.2)
        if moved_mm < 1e-4 and tolerance_mm <= final_mm:
            break
        tolerance_mm = max(0.7 * tolerance_mm, final_mm)
    near = _near(surface_world_mm, centre, radius, tolerance_mm)
    offsets = surface_world_mm[near] - centre
    distances = np.linalg.norm(offsets, axis=1)
    residual = float(np.sqrt(np.mean((distances - radius) ** 2)))
    return Sphere(centre, radius, residual, _coverage(offsets / distances[:, None]))


def _near(points: Matrix, centre: Vector, radius: float, tolerance_mm: float) -> Mask:
    near = np.abs(np.linalg.norm(points - centre, axis=1) - radius) < tolerance_mm
    if np.count_nonzero(near) < _LEAST_SURFACE_POINTS:
        raise BadRegion("no sphere fits the bone's end", mend="is the femoral head in the label map?")
    return np.asarray(near)


def _algebraic_sphere(points: Matrix) -> tuple[Vector, float]:
    """|p|^2 = 2 c.p + (r^2 - |c|^2), linear in c and the bracket (Coope, J Optim Theory Appl 1993)."""
    middle = points.mean(axis=0)
    local = points - middle
    system = np.column_stack([2.0 * local, np.ones(len(local))])
    answer = np.linalg.lstsq(system, np.sum(local**2, axis=1), rcond=None)[0]
    return middle + answer[:3], float(np.sqrt(max(answer[3] + answer[:3] @ answer[:3], 1e-12)))


def _coverage(directions: Matrix) -> float:
    """The share of 400 even directions with a given direction within 8 degrees."""
    n = np.arange(400) + 0.5
    height, turn = 1.0 - 2.0 * n / 400, np.pi * (1 + 5**0.5) * n
    width = np.sqrt(1.0 - height**2)
    even = np.column_stack([width * np.cos(turn), width * np.sin(turn), height])
    return float(np.mean((even @ directions.T).max(axis=1) > np.cos(np.radians(8.0))))


def across_mm(offsets: Matrix, direction: Vector) -> NDArray[np.float64]:
    """How far points, as offsets (n, 3) from a point on a line, lie from that line along a unit vector."""
    return np.asarray(np.linalg.norm(offsets - np.outer(offsets @ direction, direction), axis=1))


def unit_vector(vector: Vector) -> Vector:
    """The vector at length 1."""
    return np.asarray(vector / np.linalg.norm(vector))
