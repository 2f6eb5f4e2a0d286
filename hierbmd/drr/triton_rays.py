"""Joseph's method on a GPU, first: a tile of pixels, and its rays in index space, set up in float64."""

from __future__ import annotations

import triton
import triton.language as tl

from hierbmd.drr.triton_march import SHIFT

ALONG, ACROSS = tl.constexpr(16), tl.constexpr(4)
"""A tile of rays: along the image axis nearer to the one that is contiguous in memory, and across it."""

CAMERA_NUMBERS = 10
"""du, dv, u0, v0, sdd_mm, whether the source moves with the pixel on x, on y (1.0 or 0.0), the pivot in world mm."""


@triton.jit
def index_from_camera(index_from_world: tl.tensor, pose: tl.tensor) -> tl.tuple:
    """The rows of the 3x4 from camera mm to voxel indices: index_from_world times the pose's inverse, float64."""
    rows = ()
    for i in tl.static_range(3):
        a0, a1 = tl.load(index_from_world + 4 * i), tl.load(index_from_world + 4 * i + 1)
        a2, shift = tl.load(index_from_world + 4 * i + 2), tl.load(index_from_world + 4 * i + 3)
        for k in tl.static_range(3):
            by_k = a0 * tl.load(pose + 4 * k) + a1 * tl.load(pose + 4 * k + 1) + a2 * tl.load(pose + 4 * k + 2)
            shift -= by_k * tl.load(pose + 4 * k + 3)
            rows = rows + (by_k,)
        rows = rows + (shift,)
    return rows


@triton.jit
def by_columns_of(matrix: tl.tuple, camera: tl.tensor) -> tl.tensor:
    """Whether the volume's contiguous axis runs along the image's columns rather than its rows."""
    return tl.abs(matrix[9]) * tl.load(camera + 1) > tl.abs(matrix[8]) * tl.load(camera)


@triton.jit
def pixels_of(tile: tl.tensor, height: tl.tensor, width: tl.tensor, by_columns: tl.tensor) -> tl.tuple:
    """The rows and columns (R,) of a tile; beyond the image where there is no such tile."""
    tiles = tl.cdiv(tl.where(by_columns, height, width), ALONG)
    lane = tl.arange(0, ALONG * ACROSS)
    far = (tile % tiles) * ALONG + lane % ALONG
    near = (tile // tiles) * ACROSS + lane // ALONG
    return tl.where(by_columns, far, near), tl.where(by_columns, near, far)


@triton.jit
def aim(matrix: tl.tuple, camera: tl.tensor, row: tl.tensor, col: tl.tensor) -> tl.tuple:
    """Each ray in float64, (R,) each: 8 in camera mm, its source, its step to the detector and its pixel's x and y;

    then its source and its step by index, three each.
    """
    x = (col.to(tl.float64) - tl.load(camera + 2)) * tl.load(camera)
    y = (row.to(tl.float64) - tl.load(camera + 3)) * tl.load(camera + 1)
    source_x, source_y, z = x * tl.load(camera + 5), y * tl.load(camera + 6), tl.zeros_like(x)
    step_x, step_y, step_z = x - source_x, y - source_y, z + tl.load(camera + 4)
    source, step = (), ()
    for i in tl.static_range(3):
        by_x, by_y, by_z, shift = matrix[4 * i], matrix[4 * i + 1], matrix[4 * i + 2], matrix[4 * i + 3]
        source = source + (by_x * source_x + by_y * source_y + shift,)
        step = step + (by_x * step_x + by_y * step_y + by_z * step_z,)
    return (source_x, source_y, z, step_x, step_y, step_z, x, y), source, step


@triton.jit
def length_mm(points_mm: tl.tuple) -> tl.tensor:
    x, y, z = points_mm[3].to(tl.float32), points_mm[4].to(tl.float32), points_mm[5].to(tl.float32)
    return tl.sqrt(x * x + y * y + z * z)


@triton.jit
def steepest(step: tl.tuple) -> tl.tensor:
    """The axis that a ray steps along; ties fall to the first by more than rounding, so that neighbours agree."""
    size0, size1, size2 = tl.abs(step[0]), tl.abs(step[1]), tl.abs(step[2])
    second = size1 > size0 * (1.0 + 1e-9)
    third = size2 > tl.where(second, size1, size0) * (1.0 + 1e-9)
    return tl.where(third, 2, tl.where(second, 1, 0))


@triton.jit
def pick(axis: tl.tensor, values: tl.tuple, k: tl.constexpr) -> tl.tensor:
    """The component on the k-th axis from c in cyclic order."""
    return tl.where(axis == 0, values[k], tl.where(axis == 1, values[(k + 1) % 3], values[(k + 2) % 3]))


@triton.jit
def lines(field: tl.tuple, axis: tl.tensor, source: tl.tuple, step: tl.tuple) -> tl.tuple:
    """The rays as `march` takes them, the step on c, both float32, and where from source (0) to detector the anchor is.

    The last is float64: points there are found by it.
    """
    counts = (field.n0, field.n1, field.n2)
    step_c = tl.where(axis < 3, pick(axis, step, 0), 1.0)
    from_source = (pick(axis, counts, 0) // 2).to(tl.float64) - pick(axis, source, 0)
    bx, by = pick(axis, step, 1) / step_c, pick(axis, step, 2) / step_c
    x0 = pick(axis, source, 1) + from_source * bx + SHIFT
    y0 = pick(axis, source, 2) + from_source * by + SHIFT
    lower, upper = tl.minimum(-from_source, step_c - from_source), tl.maximum(-from_source, step_c - from_source)
    rays = (x0.to(tl.float32), bx.to(tl.float32), y0.to(tl.float32), by.to(tl.float32))
    return rays + (lower.to(tl.float32), upper.to(tl.float32)), step_c.to(tl.float32), from_source / step_c
