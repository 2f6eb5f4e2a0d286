"""Implicit shapes: bones as sphere meshes, evaluated as signed distances on a grid.

A bone is a skeleton of vertices, each with a radius and a cortical thickness, joined by points, segments and triangles
whose radius and thickness are interpolated: a discrete medial axis. Groups of such pieces blend into one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Grid
from hierbmd.kernels import compiled
from hierbmd.rigid import Matrix, transform_points

Floats = NDArray[np.float32]

_FAR_MM = 60.0
_REACH_MM = 20.0
_BLOCK = 6


@dataclass(frozen=True)
class Group:
    """Pieces that meet with a sharp union: `vertices` (n, 5) as x, y, z, radius, cortical thickness in mm.

    `pieces` are tuples of one to three vertex numbers. `blend_mm` is the radius of the fillet with the groups before.
    `carve` takes the group away instead of adding it. `planes` (m, 4) keep only where normal . p <= offset.
    """

    vertices: NDArray[np.float64]
    pieces: tuple[tuple[int, ...], ...]
    blend_mm: float = 5.0
    carve: bool = False
    planes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))

    def transformed(self, a_from_b: Matrix, *, scale: float = 1.0) -> Group:
        """The group after an affine map of its vertices (a mirror is allowed); radii are scaled by `scale`."""
        vertices = self.vertices.copy()
        vertices[:, :3] = transform_points(a_from_b, vertices[:, :3])
        vertices[:, 3] *= scale
        planes = self.planes.copy()
        for plane in planes:
            on_plane = transform_points(a_from_b, plane[:3] * plane[3])
            normal = np.linalg.inv(a_from_b[:3, :3]).T @ plane[:3]
            plane[:3] = normal / np.linalg.norm(normal)
            plane[3] = plane[:3] @ on_plane
        return replace(self, vertices=vertices, planes=planes)


@dataclass(frozen=True)
class Shape:
    """A bone's implicit shape in LPS mm: groups in the order in which they are blended."""

    groups: tuple[Group, ...]

    def transformed(self, a_from_b: Matrix, *, scale: float = 1.0) -> Shape:
        """The shape after an affine map of its vertices."""
        return Shape(tuple(group.transformed(a_from_b, scale=scale) for group in self.groups))

    def bounds_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower and upper corner in mm of what the added groups can reach."""
        added = [g for g in self.groups if not g.carve]
        low = np.min([np.min(g.vertices[:, :3] - g.vertices[:, 3:4] - g.blend_mm / 4, axis=0) for g in added], axis=0)
        high = np.max([np.max(g.vertices[:, :3] + g.vertices[:, 3:4] + g.blend_mm / 4, axis=0) for g in added], axis=0)
        return low, high


@dataclass(frozen=True)
class Field:
    """A shape on a box of a grid: signed distance (negative inside) and wall thickness, mm; `box` slices the grid."""

    distance_mm: Floats
    thickness_mm: Floats
    box: tuple[slice, slice, slice]


def group(
    vertices: Sequence[Sequence[float]],
    pieces: Sequence[Sequence[int]],
    *,
    blend_mm: float = 5.0,
    carve: bool = False,
    planes: Sequence[Sequence[float]] = (),
) -> Group:
    """A group from plain lists; a vertex may leave out its thickness (1 mm)."""
    rows = np.array([list(v) + [1.0] * (5 - len(v)) for v in vertices], dtype=np.float64)
    cuts = np.array(planes, dtype=np.float64).reshape(-1, 4)
    return Group(rows, tuple(tuple(p) for p in pieces), blend_mm, carve, cuts)


def chain(vertices: Sequence[Sequence[float]], *, blend_mm: float = 5.0, carve: bool = False) -> Group:
    """A group of segments from each vertex to the next."""
    return group(vertices, [(n, n + 1) for n in range(len(vertices) - 1)], blend_mm=blend_mm, carve=carve)


def box_of(shape: Shape, grid: Grid, *, margin_mm: float = 6.0) -> tuple[slice, slice, slice] | None:
    """The grid's index box around a shape, None where they do not meet; the grid's axes lie along the world's."""
    low, high = shape.bounds_mm()
    ends = transform_points(grid.index_from_world, np.stack([low - margin_mm, high + margin_mm]))
    first = np.maximum(np.floor(ends.min(axis=0)), 0).astype(int)
    last = np.minimum(np.ceil(ends.max(axis=0)) + 1, grid.shape).astype(int)
    if np.any(last <= first):
        return None
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])


def evaluate(shape: Shape, grid: Grid, box: tuple[slice, slice, slice]) -> Field:
    """Signed distance and thickness of a shape at the voxel centres of a box of an axis-aligned grid.

    Distances are exact near the pieces and a smooth union's (quadratic blend) between groups; farther than 20 mm from a
    group they are only known to be far.
    """
    size = tuple(s.stop - s.start for s in box)
    origin = transform_points(grid.world_from_index, np.array([s.start for s in box], dtype=np.float64))
    step = np.diag(grid.world_from_index)[:3]
    distance = np.empty(size, dtype=np.float32)
    thickness = np.empty(size, dtype=np.float32)
    _fill(distance, thickness, origin, step, *_packed(shape))
    return Field(distance, thickness, box)


def occupancy(distance_mm: Floats, voxel_mm: float) -> Floats:
    """The share of each voxel inside a surface, from its signed distance: a linear ramp one voxel wide.

    For a flat surface along the grid this is the exact partial volume; differences of two ramps conserve a shell's
    mass.
    """
    return np.clip(np.float32(0.5) - distance_mm / np.float32(voxel_mm), 0.0, 1.0)


def _packed(shape: Shape) -> tuple[Any, ...]:
    """Flat arrays for the kernel: corners (n, 3, 5), counts, bounding balls, per-group ranges and settings, planes."""
    corners: list[NDArray[np.float64]] = []
    planes: list[NDArray[np.float64]] = []
    counts, starts, settings = [], [0], []
    for g in shape.groups:
        for piece in g.pieces:
            corners.append(g.vertices[[*piece, *([piece[-1]] * (3 - len(piece)))]])
            counts.append(len(piece))
        starts.append(len(corners))
        first_plane = sum(len(p) for p in planes)
        settings.append([g.blend_mm, float(g.carve), float(first_plane), float(first_plane + len(g.planes))])
        planes.append(g.planes)
    packed = np.array(corners)
    centres = packed[:, :, :3].mean(axis=1)
    reach = np.linalg.norm(packed[:, :, :3] - centres[:, None], axis=2).max(axis=1) + packed[:, :, 3].max(axis=1)
    balls = np.column_stack([centres, reach])
    return packed, np.array(counts), balls, np.array(starts), np.array(settings), np.concatenate(planes)


@compiled
def _fill(distance, thickness, origin, step, corners, counts, balls, starts, settings, planes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913, PLR0917
    """Fill the arrays block by block; each block looks at the pieces only that are within reach of some voxel of it."""
    ni, nj, nk = distance.shape
    p, centre = np.empty(3), np.empty(3)
    near, first = np.empty(len(counts), np.int64), np.empty(len(starts), np.int64)
    radius = 0.5 * (_BLOCK - 1) * np.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    for block in np.ndindex((-(-ni // _BLOCK), -(-nj // _BLOCK), -(-nk // _BLOCK))):
        for axis in range(3):
            centre[axis] = origin[axis] + (block[axis] * _BLOCK + 0.5 * (_BLOCK - 1)) * step[axis]
        _near(centre, radius, balls, starts, near, first)
        for i in range(block[0] * _BLOCK, min(block[0] * _BLOCK + _BLOCK, ni)):
            p[0] = origin[0] + i * step[0]
            for j in range(block[1] * _BLOCK, min(block[1] * _BLOCK + _BLOCK, nj)):
                p[1] = origin[1] + j * step[1]
                for k in range(block[2] * _BLOCK, min(block[2] * _BLOCK + _BLOCK, nk)):
                    p[2] = origin[2] + k * step[2]
                    d, t = _point(p, corners, counts, balls, near, first, settings, planes)
                    distance[i, j, k] = d
                    thickness[i, j, k] = t


@compiled
def _near(centre, radius, balls, starts, near, first):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The pieces within reach of a ball, group by group: `near[first[g] : first[g + 1]]`."""
    found = 0
    for g in range(len(starts) - 1):
        first[g] = found
        for n in range(starts[g], starts[g + 1]):
            away = 0.0
            for axis in range(3):
                away += (centre[axis] - balls[n, axis]) ** 2
            if np.sqrt(away) - balls[n, 3] - radius < _REACH_MM:
                near[found] = n
                found += 1
    first[len(starts) - 1] = found


@compiled
def _point(p, corners, counts, balls, near, first, settings, planes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913, PLR0917
    total, wall = _FAR_MM, 1.0
    for g in range(len(first) - 1):
        d, t = _REACH_MM, 1.0
        for at in range(first[g], first[g + 1]):
            n = near[at]
            ball = balls[n]
            away = np.sqrt((p[0] - ball[0]) ** 2 + (p[1] - ball[1]) ** 2 + (p[2] - ball[2]) ** 2) - ball[3]
            if away < d:
                dn, tn = _piece(p, corners[n], counts[n])
                if dn < d:
                    d, t = dn, tn
        for m in range(int(settings[g, 2]), int(settings[g, 3])):
            cut = planes[m, 0] * p[0] + planes[m, 1] * p[1] + planes[m, 2] * p[2] - planes[m, 3]
            d = max(d, cut)
        blend = settings[g, 0]
        if settings[g, 1] > 0.5:
            total = max(total, -d)
            continue
        share = min(max(0.5 + 0.5 * (d - total) / blend, 0.0), 1.0)
        total = d + (total - d) * share - blend * share * (1.0 - share)
        total = min(total, _FAR_MM)
        wall = t + (wall - t) * share
    # `share` is the weight of what was there before, so the union keeps it where it is nearer.
    return total, wall


@compiled
def _piece(p, corner, count):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Distance to a point, segment or triangle less the radius at its closest point (Ericson 2004, 5.1)."""
    u, v = 0.0, 0.0
    if count == 2:
        u = _along(p, corner[0], corner[1])
    elif count == 3:
        u, v = _in_triangle(p, corner[0], corner[1], corner[2])
    w = 1.0 - u - v
    square = 0.0
    for axis in range(3):
        q = w * corner[0, axis] + u * corner[1, axis] + v * corner[2, axis]
        square += (p[axis] - q) ** 2
    radius = w * corner[0, 3] + u * corner[1, 3] + v * corner[2, 3]
    wall = w * corner[0, 4] + u * corner[1, 4] + v * corner[2, 4]
    return np.sqrt(square) - radius, wall


@compiled
def _along(p, a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Where the closest point of a segment is, 0 at a and 1 at b."""
    dot, length = 0.0, 1e-12
    for axis in range(3):
        dot += (p[axis] - a[axis]) * (b[axis] - a[axis])
        length += (b[axis] - a[axis]) ** 2
    return min(max(dot / length, 0.0), 1.0)


@compiled
def _in_triangle(p, a, b, c):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The barycentric weights (of b, of c) of the closest point of a triangle."""
    e00, e01, e11, f0, f1 = 1e-9, 0.0, 1e-9, 0.0, 0.0
    for axis in range(3):
        ab, ac, ap = b[axis] - a[axis], c[axis] - a[axis], p[axis] - a[axis]
        e00 += ab * ab
        e01 += ab * ac
        e11 += ac * ac
        f0 += ab * ap
        f1 += ac * ap
    determinant = e00 * e11 - e01 * e01 + 1e-9
    u = (e11 * f0 - e01 * f1) / determinant
    v = (e00 * f1 - e01 * f0) / determinant
    if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
        return u, v
    best, bu, bv = 1e18, 0.0, 0.0
    for edge in range(3):
        if edge == 0:
            uu, vv = _along(p, a, b), 0.0
        elif edge == 1:
            uu, vv = 0.0, _along(p, a, c)
        else:
            vv = _along(p, b, c)
            uu = 1.0 - vv
        square = 0.0
        for axis in range(3):
            q = (1.0 - uu - vv) * a[axis] + uu * b[axis] + vv * c[axis]
            square += (p[axis] - q) ** 2
        if square < best:
            best, bu, bv = square, uu, vv
    return bu, bv
