"""Joseph's method on a GPU, third: one launch from poses to images and their derivatives.

A program takes one tile of pixels of one pose and one group of structures: it aims the rays in float64 (`triton_rays`),
walks them (`triton_march`) and applies the chain rule here, in float32. Poses go along the grid's first axis together
with the tiles, fastest: the same tile of neighbouring poses reads the same part of the volume.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hierbmd.drr.triton_march import along, march, taps, value_of
from hierbmd.drr.triton_rays import aim, by_columns_of, index_from_camera, length_mm, lines, pick, pixels_of, steepest

IMAGE, TWIST, ENDS, MOMENTS = (tl.constexpr(i) for i in range(4))
"""What a launch leaves beside the image: nothing; the derivative by the pose; by the rays' ends; their moments."""


@triton.jit(do_not_specialize=["field", "size"])
def project(
    field: tl.tuple,
    camera: tl.tensor,
    poses: tl.tensor,
    size: tl.tuple,
    image: tl.tensor,
    out: tl.tensor,
    MODE: tl.constexpr,
    GROUP: tl.constexpr,
    LABEL_BITS: tl.constexpr,
    K: tl.constexpr,
) -> None:
    """Fill image (B, S, H, W) and `out`, float32, for poses (B, 4, 4) float64.

    `camera` is float64, CAMERA_NUMBERS long; `size` is (B, S, H, W). `out` is (B, S, 6, H, W) for TWIST and ENDS. For
    MOMENTS `image` is read instead, as the weights of the pixels, and `out` (B, groups, tiles, 18) gets each tile's
    share of `cuda.CudaProjector.moments`. GROUP is the number of structures of a program, LABEL_BITS as in `march`.
    """
    count, structures, height, width = size
    pose, tile, group = tl.program_id(0) % count, tl.program_id(0) // count, tl.program_id(1)
    matrix = index_from_camera(field.index_from_world, poses + pose * 16)
    row, col = pixels_of(tile, height, width, by_columns_of(matrix, camera))
    points_mm, source, step = aim(matrix, camera, row, col)
    axis = tl.where((row < height) & (col < width), steepest(step), 3)
    rays, step_c, at_anchor = lines(field, axis, source, step)
    sums = march(field, rays, axis, group, MODE != 0, GROUP, LABEL_BITS, K)

    scale_mm = length_mm(points_mm) / tl.abs(step_c)
    pixels = row * width + col
    moments = (tl.zeros_like(scale_mm),) * 6
    for i in tl.static_range(GROUP):
        structure = group * GROUP + i
        place = (pose * structures + structure).to(tl.int64) * height * width
        shown = axis < tl.where(structure < structures, 3, 0)
        if MODE == 0:
            tl.store(image + place + pixels, scale_mm * tl.sum(sums[i], axis=0), mask=shown)
        else:
            five = _five(sums, i)
            forces = _in_camera(matrix, _forces(five, rays, scale_mm, axis))
            at_ends = _at_ends(field, rays, axis, structure, LABEL_BITS)
            at_ends = _along_c(matrix, axis, at_ends, scale_mm, step_c)
            if MODE == 1:
                six = _by_twist(forces, at_ends, points_mm, step_c, at_anchor, camera, poses + pose * 16)
            else:
                six = _by_ends(forces, at_ends, step_c, at_anchor)
            if MODE == 3:
                moments = _weighted(moments, six, tl.load(image + place + pixels, mask=shown, other=0.0))
            else:
                tl.store(image + place + pixels, scale_mm * five[0], mask=shown)
                for k in tl.static_range(6):
                    tl.store(out + place * 6 + k * height * width + pixels, six[k], mask=shown)
    if MODE == 3:
        tiles = tl.num_programs(0) // count
        at = out + ((pose * tl.num_programs(1) + group) * tiles + tile) * 18
        for k in tl.static_range(6):
            tl.store(at + 3 * k, tl.sum(moments[k] * points_mm[6].to(tl.float32), axis=0))
            tl.store(at + 3 * k + 1, tl.sum(moments[k] * points_mm[7].to(tl.float32), axis=0))
            tl.store(at + 3 * k + 2, tl.sum(moments[k], axis=0))


@triton.jit
def _five(sums: tl.tuple, i: tl.constexpr) -> tl.tuple:
    """The five sums (R,) of the i-th structure, its K planes added up."""
    out = ()
    for k in tl.static_range(5):
        out = out + (tl.sum(sums[5 * i + k], axis=0),)
    return out


@triton.jit
def _at_ends(
    field: tl.tuple, rays: tl.tuple, axis: tl.tensor, structure: tl.tensor, LABEL_BITS: tl.constexpr
) -> tl.tuple:
    """The field of a structure at each ray's lower and upper end, (R,): zero for an end outside the volume."""
    lattice = along(field, axis)
    count = lattice[0]
    anchor = count // 2
    inside = (axis < 3) & ((rays[4] > -1.0 - anchor) | (rays[5] < count - anchor))
    low, high = tl.zeros_like(rays[0]), tl.zeros_like(rays[0])
    if tl.max(inside.to(tl.int32), axis=0) > 0:
        for k in range(2):
            low += _near_end(field, lattice, rays, rays[4], k, structure, LABEL_BITS)
            high += _near_end(field, lattice, rays, rays[5], k, structure, LABEL_BITS)
    return low, high


@triton.jit
def _near_end(
    field: tl.tuple,
    lattice: tl.tuple,
    rays: tl.tuple,
    end: tl.tensor,
    k: tl.tensor,
    structure: tl.tensor,
    LABEL_BITS: tl.constexpr,
) -> tl.tensor:
    """What the plane below (k = 0) or above (1) gives to the field where a ray reaches `end` on c, less the anchor."""
    count, stride = lattice[0], lattice[1]
    anchor = count // 2
    end = tl.minimum(tl.maximum(end, -1.0 - anchor), 1.0 * (count - anchor))
    dm = tl.floor(end) + k
    plane = (dm.to(tl.int32) + anchor) * stride
    words, fx, fy = taps(field, lattice, structure, rays[0] + dm * rays[1], rays[2] + dm * rays[3], plane)
    v00, v10 = value_of(words[0], structure, LABEL_BITS), value_of(words[1], structure, LABEL_BITS)
    v01, v11 = value_of(words[2], structure, LABEL_BITS), value_of(words[3], structure, LABEL_BITS)
    low, high = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
    return (1.0 - tl.abs(end - dm)) * (low + fy * (high - low))


@triton.jit
def _forces(five: tl.tuple, rays: tl.tuple, scale_mm: tl.tensor, axis: tl.tensor) -> tl.tuple:
    """The derivative by where the ray meets the anchor's plane, and by its step from plane to plane, in index space.

    Both as if the ray ended outside the volume. Six tensors (R,): along c a ray slides within itself, and what a
    plane more of it is worth is the sum of the field.
    """
    bx, by = rays[1], rays[3]
    by_x, by_y, by_bx, by_by = scale_mm * five[1], scale_mm * five[2], scale_mm * five[3], scale_mm * five[4]
    at_anchor = (-(by_x * bx + by_y * by), by_x, by_y)
    by_step = (-(by_bx * bx + by_by * by + scale_mm * five[0]), by_bx, by_by)
    return _in_order(axis, at_anchor) + _in_order(axis, by_step)


@triton.jit
def _in_order(axis: tl.tensor, cab: tl.tuple) -> tl.tuple:
    """Components on c, a, b as components on the index axes."""
    out = ()
    for i in tl.static_range(3):
        out = out + (tl.where(axis == 0, cab[i], tl.where(axis == 1, cab[(i + 2) % 3], cab[(i + 1) % 3])),)
    return out


@triton.jit
def _in_camera(matrix: tl.tuple, forces: tl.tuple) -> tl.tuple:
    """Derivatives by index space as derivatives by camera mm, both of them."""
    out = ()
    for which in tl.static_range(2):
        for k in tl.static_range(3):
            m0, m1, m2 = matrix[k].to(tl.float32), matrix[4 + k].to(tl.float32), matrix[8 + k].to(tl.float32)
            out = out + (m0 * forces[3 * which] + m1 * forces[3 * which + 1] + m2 * forces[3 * which + 2],)
    return out


@triton.jit
def _along_c(matrix: tl.tuple, axis: tl.tensor, at_ends: tl.tuple, scale_mm: tl.tensor, step_c: tl.tensor) -> tl.tuple:
    """The derivative by source and by detector of how much of the ray there is, camera mm: zero for ends outside."""
    lower, upper = -scale_mm * at_ends[0], scale_mm * at_ends[1]
    at_source, at_detector = tl.where(step_c < 0, upper, lower), tl.where(step_c < 0, lower, upper)
    source, detector = (), ()
    for k in tl.static_range(3):
        by_c = pick(axis, (matrix[k], matrix[4 + k], matrix[8 + k]), 0).to(tl.float32)
        source, detector = source + (at_source * by_c,), detector + (at_detector * by_c,)
    return source + detector


@triton.jit
def _by_ends(forces: tl.tuple, at_ends: tl.tuple, step_c: tl.tensor, at_anchor: tl.tensor) -> tl.tuple:
    """The derivative by a ray's source and by its detector point in camera mm, six tensors (R,)."""
    after, before = at_anchor.to(tl.float32), (1.0 - at_anchor).to(tl.float32)
    source, detector = (), ()
    for k in tl.static_range(3):
        source = source + (before * forces[k] - forces[3 + k] / step_c + at_ends[k],)
        detector = detector + (after * forces[k] + forces[3 + k] / step_c + at_ends[3 + k],)
    return source + detector


@triton.jit
def _by_twist(
    forces: tl.tuple,
    at_ends: tl.tuple,
    points_mm: tl.tuple,
    step_c: tl.tensor,
    at_anchor: tl.tensor,
    camera: tl.tensor,
    pose: tl.tensor,
) -> tl.tuple:
    """The derivative by the six of `rigid.moved`, as `rays.twist_jacobian` has it from the ends.

    From the point in the anchor's plane the lever to the pivot is short, and float32 loses nothing.
    """
    source, anchor, detector, step = (), (), (), ()
    for i in tl.static_range(3):
        pivot = tl.load(pose + 4 * i + 3)
        for k in tl.static_range(3):
            pivot += tl.load(pose + 4 * i + k) * tl.load(camera + 7 + k)
        from_pivot = points_mm[i] - pivot
        source = source + (from_pivot.to(tl.float32),)
        anchor = anchor + ((from_pivot + at_anchor * points_mm[3 + i]).to(tl.float32),)
        detector = detector + ((from_pivot + points_mm[3 + i]).to(tl.float32),)
        step = step + (points_mm[3 + i].to(tl.float32) / step_c,)
    turn, shift = (), ()
    for i in tl.static_range(3):
        at_points = _cross(anchor, forces[:3], i) + _cross(step, forces[3:], i)
        turn = turn + (-(at_points + _cross(source, at_ends[:3], i) + _cross(detector, at_ends[3:], i)),)
        shift = shift + (-(forces[i] + at_ends[i] + at_ends[3 + i]),)
    return turn + shift


@triton.jit
def _cross(arm: tl.tuple, force: tl.tuple, i: tl.constexpr) -> tl.tensor:
    """The i-th component of arm x force."""
    return arm[(i + 1) % 3] * force[(i + 2) % 3] - arm[(i + 2) % 3] * force[(i + 1) % 3]


@triton.jit
def _weighted(share: tl.tuple, force: tl.tuple, weight: tl.tensor) -> tl.tuple:
    out = ()
    for k in tl.static_range(6):
        out = out + (share[k] + weight * force[k],)
    return out
