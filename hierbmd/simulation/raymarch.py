"""Line integrals for simulated radiographs: their own sampling, apart from the projector that models are trained with.

Each ray is sampled at midpoints of equal steps; a sample is the zero-padded trilinear interpolation of the voxels, all
channels at once. Finer steps converge to the exact integral of that field.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import Camera, Grid
from hierbmd.kernels import compiled
from hierbmd.rigid import Matrix, invert_rigid, transform_points

Floats = NDArray[np.float32]


def line_integrals(amounts: Floats, grid: Grid, camera: Camera, camera_from_world: Matrix, *, step_mm: float) -> Floats:
    """Integrals of each channel along the rays to the pixel centres, (H, W, C) in unit of the channel times mm.

    `amounts` is (ni, nj, nk, C). RaysMissVolume when no ray meets a voxel that holds anything, or all lies behind.
    """
    first, last = _content(amounts)
    padded = np.ascontiguousarray(_padded(amounts, first, last))
    index_from_camera = grid.index_from_world @ invert_rigid(camera_from_world)
    index_from_camera = index_from_camera.copy()
    index_from_camera[:3, 3] += 1.0 - first
    source = transform_points(index_from_camera, np.zeros(3))
    points = camera.detector_points_mm()
    ends = transform_points(index_from_camera, points)
    lengths = np.linalg.norm(points, axis=-1)
    out = np.zeros((*lengths.shape, amounts.shape[3]), dtype=np.float32)
    met = _march(padded, source, ends, lengths, float(step_mm), out)
    if not met:
        raise RaysMissVolume("rays miss the volume", mend="check camera_from_world and the isocentre")
    return out


def supersampled(camera: Camera, factor: int) -> Camera:
    """The camera with `factor` x `factor` rays in each pixel of the given one."""
    if factor == 1:
        return camera
    shift = (factor - 1) / 2.0
    return Camera(
        camera.sdd_mm,
        (camera.size_px[0] * factor, camera.size_px[1] * factor),
        (camera.pixel_mm[0] / factor, camera.pixel_mm[1] / factor),
        (camera.centre_px[0] * factor + shift, camera.centre_px[1] * factor + shift),
    )


def _content(amounts: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The index box, first and last + 1, of the voxels that hold anything."""
    box = np.array([amounts.shape[:3], (0, 0, 0)], dtype=np.int64)
    _grow_to_content(amounts, box)
    if box[1, 0] == 0:
        raise RaysMissVolume("the volume holds nothing but air", mend="check that its values are HU")
    return box[0], box[1]


def _padded(amounts: Floats, first: NDArray[np.int64], last: NDArray[np.int64]) -> Floats:
    box = amounts[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    padded = np.zeros((*(n + 2 for n in box.shape[:3]), amounts.shape[3]), dtype=np.float32)
    padded[1:-1, 1:-1, 1:-1] = box
    return padded


# Without fastmath: a kernel just compiled and the same one from the cache would round apart, and with them the bytes
# that one and two workers write.
@compiled
def _march(voxels, source, ends, lengths, step_mm, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    met = False
    direction = np.empty(3)
    high = np.array([voxels.shape[0] - 1.0, voxels.shape[1] - 1.0, voxels.shape[2] - 1.0])
    for row in range(ends.shape[0]):
        for column in range(ends.shape[1]):
            near, far = 0.0, 1.0
            for axis in range(3):
                direction[axis] = ends[row, column, axis] - source[axis]
                if abs(direction[axis]) < 1e-12:
                    if source[axis] < 0.0 or source[axis] > high[axis]:
                        far = -1.0
                    continue
                a = -source[axis] / direction[axis]
                b = (high[axis] - source[axis]) / direction[axis]
                near, far = max(near, min(a, b)), min(far, max(a, b))
            if far <= near:
                continue
            met = True
            length = (far - near) * lengths[row, column]
            steps = max(int(np.ceil(length / step_mm)), 1)
            if out.shape[2] == 4:
                _integrate_four(voxels, source, direction, near, far, steps, out[row, column])
            else:
                _integrate(voxels, source, direction, near, far, steps, out[row, column])
            for c in range(out.shape[2]):
                out[row, column, c] *= length / steps
    return met


@compiled
def _grow_to_content(amounts, box):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Grow `box`, (2, 3) as first and last + 1, to every voxel with a channel that is not zero."""
    for i in range(amounts.shape[0]):
        for j in range(amounts.shape[1]):
            for k in range(amounts.shape[2]):
                held = False
                for c in range(amounts.shape[3]):
                    held |= amounts[i, j, k, c] != 0.0
                if held:
                    box[0, 0], box[1, 0] = min(box[0, 0], i), max(box[1, 0], i + 1)
                    box[0, 1], box[1, 1] = min(box[0, 1], j), max(box[1, 1], j + 1)
                    box[0, 2], box[1, 2] = min(box[0, 2], k), max(box[1, 2], k + 1)


@compiled
def _integrate(voxels, source, direction, near, far, steps, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Add up the trilinear samples at the midpoints of `steps` equal parts of the ray between `near` and `far`."""
    channels = voxels.shape[3]
    ni, nj, nk = voxels.shape[0] - 2, voxels.shape[1] - 2, voxels.shape[2] - 2
    for n in range(steps):
        t = near + (far - near) * (n + 0.5) / steps
        x, y, z = source[0] + t * direction[0], source[1] + t * direction[1], source[2] + t * direction[2]
        i, j, k = min(max(int(x), 0), ni), min(max(int(y), 0), nj), min(max(int(z), 0), nk)
        fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
        gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
        w0, w1, w2, w3 = gx * gy * gz, gx * gy * fz, gx * fy * gz, gx * fy * fz
        w4, w5, w6, w7 = fx * gy * gz, fx * gy * fz, fx * fy * gz, fx * fy * fz
        for c in range(channels):
            sums[c] += (
                w0 * voxels[i, j, k, c]
                + w1 * voxels[i, j, k + 1, c]
                + w2 * voxels[i, j + 1, k, c]
                + w3 * voxels[i, j + 1, k + 1, c]
                + w4 * voxels[i + 1, j, k, c]
                + w5 * voxels[i + 1, j, k + 1, c]
                + w6 * voxels[i + 1, j + 1, k, c]
                + w7 * voxels[i + 1, j + 1, k + 1, c]
            )


@compiled
def _integrate_four(voxels, source, direction, near, far, steps, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """`_integrate` for four channels: sums stay in registers.

    The arithmetic of a channel is that of `_integrate`, so the two give the same bits.
    """
    s0 = s1 = s2 = s3 = np.float32(0)
    ni, nj, nk = voxels.shape[0] - 2, voxels.shape[1] - 2, voxels.shape[2] - 2
    for n in range(steps):
        t = near + (far - near) * (n + 0.5) / steps
        x, y, z = source[0] + t * direction[0], source[1] + t * direction[1], source[2] + t * direction[2]
        i, j, k = min(max(int(x), 0), ni), min(max(int(y), 0), nj), min(max(int(z), 0), nk)
        fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
        gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
        w = (gx * gy * gz, gx * gy * fz, gx * fy * gz, gx * fy * fz)
        v = (fx * gy * gz, fx * gy * fz, fx * fy * gz, fx * fy * fz)
        a, b = voxels[i, j, k], voxels[i, j, k + 1]
        c, d = voxels[i, j + 1, k], voxels[i, j + 1, k + 1]
        e, f = voxels[i + 1, j, k], voxels[i + 1, j, k + 1]
        g, h = voxels[i + 1, j + 1, k], voxels[i + 1, j + 1, k + 1]
        s0 += (
            w[0] * a[0] + w[1] * b[0] + w[2] * c[0] + w[3] * d[0]
            + v[0] * e[0] + v[1] * f[0] + v[2] * g[0] + v[3] * h[0]
        )  # fmt: skip
        s1 += (
            w[0] * a[1] + w[1] * b[1] + w[2] * c[1] + w[3] * d[1]
            + v[0] * e[1] + v[1] * f[1] + v[2] * g[1] + v[3] * h[1]
        )  # fmt: skip
        s2 += (
            w[0] * a[2] + w[1] * b[2] + w[2] * c[2] + w[3] * d[2]
            + v[0] * e[2] + v[1] * f[2] + v[2] * g[2] + v[3] * h[2]
        )  # fmt: skip
        s3 += (
            w[0] * a[3] + w[1] * b[3] + w[2] * c[3] + w[3] * d[3]
            + v[0] * e[3] + v[1] * f[3] + v[2] * g[3] + v[3] * h[3]
        )  # fmt: skip
    sums[0], sums[1], sums[2], sums[3] = s0, s1, s2, s3
