"""What the compiled kernels of the CPU projector share: Joseph's method, image and pose Jacobian in one pass.

A ray steps through the planes of the index axis along which it is steepest and interpolates bilinearly in each plane
(P. M. Joseph, IEEE Trans Med Imaging 1982): the trapezoid rule on the trilinear field. Between planes the field is
taken as linear, so a ray that starts or ends inside the volume gives the planes at its ends part of their weight.

Notation: c is the axis that a ray steps along, a and b the next two in cyclic order, x and y the places on them. In
plane m, x = x0 + (m - anchor) * bx; the anchor is the middle plane, which keeps float32 exact to 1e-5 voxel.

Kernels are called one after the other from `cpu`, never by each other across modules: numba's cache looks at the file
of the kernel called, and would go on with an old copy of another's. The constants below are compiled in, too: whoever
changes one during development deletes the cached kernels (`__pycache__/*.nbi`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

PAD = 2
"""Zero voxels around the volume: one is the zero-padded field's rim; a clipped ray may round into the second."""

SUMS = 7
"""Per ray and structure: the sum; its d/dx, d/dy; those two times (m - anchor); the lower and the upper end's terms."""

TILE = 16
"""Rays beside each other in a line that are worked on as one vector."""

BLOCK = 16
"""Planes in a row that are skipped together where they hold nothing; a window has room for so many."""

GROUP = 8
"""Voxels in a row on a plane's first axis whose extent on the second is kept together."""

CELL = 8
"""Voxels in a row on a plane's second axis whose label is kept together, if they have but one."""

MIXED = 255
"""In place of a label: there are several."""

BEYOND = 32
"""Elements after the last voxel: so many are read at once, wherever that begins."""


class Field(NamedTuple):
    """The padded volume, flat: `values` float32, `labels` uint8 (BEYOND elements where
    there is one structure).

    `shape` is without the padding; `strides` (elements) and `origin` (the flat place of voxel 0, 0, 0) are with it.
    `filled` (3, blocks, groups, 2) float32: for each c, each block of planes and each group of rows x, the lowest and
    highest y of a voxel that is not zero, padding counted. x and y are the axes beside c; y is the last axis of the
    three where c is not. `names` (3, blocks, groups, cells) uint8, where there are labels: the only one in each cell of
    a group along y, 0 where there is none.
    """

    values: Any
    labels: Any
    shape: Any
    strides: Any
    origin: int
    filled: Any
    names: Any


class View(NamedTuple):
    """`index_from_camera` (4, 4), the pixels' `x_mm` (W,) and `y_mm` (H,), `sdd_mm`, the pivot in camera mm (3,).

    With `by_ends` the six derivatives of a pixel are by its ray's source and detector point, without by the pose.
    `moves` is 1.0 where the source moves along with the pixel on camera x, on camera y (rays are parallel), else 0.0.
    Rays are worked on in lines of neighbours: along the rows of the detector, or along its columns (`by_columns`).
    """

    index_from_camera: Any
    x_mm: Any
    y_mm: Any
    sdd_mm: float
    moves: tuple[float, float]
    pivot_mm: Any
    by_columns: bool
    by_ends: bool


class Rays(NamedTuple):
    """Some lines of rays (R, N): `axis` is c; `line` (R, N, 6) holds x0, bx, y0, by and the two ends on c.

    `planes` (R, N, 4): the first and last plane met, the first and last of full weight; a ray that misses has its
    first after its last. `source`, `step` (R, N, 3): where the ray starts, and detector - source. `sums` (R, S, 7, N)
    and `met` (R, S, T): whether any of sixteen rays beside each other has met a structure; sums are zero where not.
    """

    axis: Any
    line: Any
    planes: Any
    source: Any
    step: Any
    sums: Any
    met: Any
