"""Rigid motions and points: the 4x4 matrices that the frames of `geometry` are related by.

A transform is named `a_from_b` and maps column vectors of b to a; lengths are in mm, float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import NotRigid

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_RIGID_TOLERANCE = 1e-4


def transform_points(a_from_b: Matrix, points_b: Matrix) -> Matrix:
    """Map points (..., 3) by a 4x4 affine."""
    return np.asarray(points_b) @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def rigid_matrix(rotation: Matrix, translation_mm: Vector) -> Matrix:
    """The 4x4 of a 3x3 rotation followed by a translation in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation_mm
    return matrix


def invert_rigid(a_from_b: Matrix) -> Matrix:
    """The inverse of a rigid 4x4."""
    rotation = a_from_b[:3, :3]
    return rigid_matrix(rotation.T, -rotation.T @ a_from_b[:3, 3])


def require_rigid(matrix: Any, where: object = "") -> Matrix:
    """The matrix as a read-only float64 4x4, or NotRigid with its determinant: rotation and translation only."""
    pose = np.array(matrix, dtype=np.float64)
    if pose.shape != (4, 4) or not np.all(np.isfinite(pose)):
        raise NotRigid(
            f"a pose is a finite 4x4 matrix, not shape {pose.shape}", where=where, mend="give camera_from_world"
        )
    rotation = pose[:3, :3]
    determinant = float(np.linalg.det(rotation))
    unit = np.allclose(rotation @ rotation.T, np.eye(3), atol=_RIGID_TOLERANCE)
    if not unit or determinant < 0 or not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-9):
        raise NotRigid(
            f"the pose is not rigid: determinant {determinant:.4g}",
            where=where,
            mend="rotation and translation only, no flip, no scale",
        )
    pose.setflags(write=False)
    return pose


def moved(camera_from_world: Matrix, twist: Vector, pivot_world_mm: Vector) -> Matrix:
    """The pose after a small motion of the patient in camera axes about a pivot: X' = R(w) (X - c) + c + t.

    `twist` is (wx, wy, wz, tx, ty, tz): a rotation vector in radians and a translation in mm, both in camera axes;
    c is the pivot's place in the camera frame. The projector's pose Jacobian is with respect to this twist at zero.
    """
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_rotvec(np.asarray(twist[:3], dtype=np.float64)).as_matrix()
    pivot = transform_points(camera_from_world, np.asarray(pivot_world_mm, dtype=np.float64))
    motion = rigid_matrix(rotation, pivot - rotation @ pivot + np.asarray(twist[3:], dtype=np.float64))
    return np.asarray(motion @ camera_from_world)


def rotation_angle_deg(rotation: Matrix) -> float:
    """The angle of a 3x3 rotation in degrees."""
    sine = np.linalg.norm(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return float(np.degrees(np.arctan2(sine, np.trace(rotation) - 1.0)))
