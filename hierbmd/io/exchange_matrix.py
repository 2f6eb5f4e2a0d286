"""A camera and its pose as one projection matrix P = K[R|t], and that matrix as three lines of text."""

from __future__ import annotations

import numpy as np
from scipy.linalg import rq

from hierbmd.errors import NotRigid
from hierbmd.geometry import Camera
from hierbmd.io.geometry_file import check_ranges
from hierbmd.rigid import Matrix, require_rigid, rigid_matrix

_LARGEST_SKEW = 1e-6


def matrix_from_geometry(camera: Camera, camera_from_world: Matrix) -> Matrix:
    """The 3x4 projection matrix K[R|t]: (u, v, 1) ~ P (x, y, z, 1), LPS mm to pixels with centres at integers.

    GeometryMissing for a beam other than the cone, which has no K.
    """
    return np.asarray(camera.intrinsics @ require_rigid(camera_from_world)[:3])


def geometry_from_matrix(
    matrix: Matrix, size_px: tuple[int, int], *, sdd_mm: float, where: object = ""
) -> tuple[Camera, Matrix]:
    """The camera and pose of a 3x4 projection matrix of any scale; its K fixes sdd/pixel, so `sdd_mm` is told.

    By RQ decomposition (Hartley and Zisserman, 2004, section 6.2.4). NotRigid for a matrix that is singular, skewed, or
    reflects; which sign is told from the volume in front of the source, so that the depth is positive.
    """
    given = np.asarray(matrix, dtype=np.float64)
    if given.shape != (3, 4) or not np.all(np.isfinite(given)) or abs(np.linalg.det(given[:, :3])) < 1e-300:
        raise NotRigid(f"not a projection matrix, shape {given.shape}", where=where, mend="give a regular 3x4 K[R|t]")
    if np.linalg.det(given[:, :3]) < 0:
        # A projection matrix has no sign of its own: K has positive diagonal, so a rotation's is positive.
        given = -given
    upper, rotation = rq(given[:, :3])
    signs = np.diag(np.sign(np.diag(upper)))
    upper, rotation = upper @ signs, signs @ rotation
    intrinsics = upper / upper[2, 2]
    if abs(intrinsics[0, 1]) > _LARGEST_SKEW * intrinsics[0, 0]:
        raise NotRigid("the projection matrix is skewed", where=where, mend="pixels are rectangles here")
    translation = np.linalg.solve(upper, given[:, 3])
    pixel_mm = (sdd_mm / float(intrinsics[0, 0]), sdd_mm / float(intrinsics[1, 1]))
    check_ranges(sdd_mm, pixel_mm, where)
    camera = Camera(sdd_mm, size_px, pixel_mm, (float(intrinsics[0, 2]), float(intrinsics[1, 2])))
    return camera, require_rigid(rigid_matrix(np.asarray(rotation, dtype=np.float64), translation), where)


def matrix_text(matrix: Matrix) -> str:
    """The three lines of four numbers, each as exact as it is."""
    return "".join(" ".join(repr(float(x)) for x in row) + "\n" for row in matrix)


def matrix_from_text(text: str, where: object = "") -> Matrix:
    """The 3x4 matrix of twelve numbers, commas and brackets allowed between them; NotRigid where they are not that."""
    words = text.translate(str.maketrans("[](),;", "      ")).split()
    try:
        return np.array([float(word) for word in words]).reshape(3, 4)
    except ValueError as error:
        raise NotRigid(f"not a projection matrix ({error})", where=where, mend="three lines of four numbers") from None
