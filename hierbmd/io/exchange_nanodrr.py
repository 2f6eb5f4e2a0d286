"""nanodrr's geometry: `k_inv`, `rt_inv` and `sdd`, for a volume that it read itself.

Pixel centres are at integers here; nanodrr's are at halves, which its principal point makes up for. Its world is RAS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hierbmd.errors import BadConfig
from hierbmd.geometry import Beam, Camera
from hierbmd.io.exchange_common import RAS_FROM_LPS, array_of, number_of, size_of
from hierbmd.io.geometry_file import check_ranges
from hierbmd.rigid import Matrix, invert_rigid, require_rigid


@dataclass(frozen=True)
class NanodrrGeometry:
    """nanodrr's arguments: `k_inv` (3, 3), `rt_inv` (4, 4) that maps its camera to RAS, `sdd`, `height`, `width`.

    `orthographic` is a parallel beam.
    """

    k_inv: Matrix
    rt_inv: Matrix
    sdd: float
    height: int
    width: int
    orthographic: bool = False


def nanodrr_from_geometry(camera: Camera, camera_from_world: Matrix) -> NanodrrGeometry:
    """What nanodrr 0.1.7 takes for a volume that it read itself: pixel centres at halves, world RAS.

    BadConfig for a slot scan.
    """
    if camera.beam is Beam.SLOT:
        raise BadConfig("nanodrr cannot say a slot beam", mend="a cone or a parallel beam")
    intrinsics = replace(camera, beam=Beam.CONE).intrinsics
    intrinsics[:2, 2] += 0.5
    rt_inv = RAS_FROM_LPS @ invert_rigid(require_rigid(camera_from_world))
    width, height = camera.size_px
    k_inv = np.asarray(np.linalg.inv(intrinsics), dtype=np.float64)
    return NanodrrGeometry(k_inv, rt_inv, camera.sdd_mm, height, width, camera.beam is Beam.PARALLEL)


def geometry_from_nanodrr(given: NanodrrGeometry, where: object = "") -> tuple[Camera, Matrix]:
    """The camera and pose of nanodrr's arguments; NotRigid for an rt_inv that is not rigid."""
    intrinsics = np.linalg.inv(np.asarray(given.k_inv, dtype=np.float64))
    pixel_mm = (given.sdd / float(intrinsics[0, 0]), given.sdd / float(intrinsics[1, 1]))
    check_ranges(given.sdd, pixel_mm, where)
    principal_px = (float(intrinsics[0, 2]) - 0.5, float(intrinsics[1, 2]) - 0.5)
    beam = Beam.PARALLEL if given.orthographic else Beam.CONE
    camera = Camera(given.sdd, (given.width, given.height), pixel_mm, principal_px, beam)
    return camera, require_rigid(invert_rigid(RAS_FROM_LPS @ require_rigid(given.rt_inv, where)))


def nanodrr_json(given: NanodrrGeometry) -> dict[str, Any]:
    """The arguments by name, matrices as rows."""
    matrices = {"k_inv": given.k_inv.tolist(), "rt_inv": given.rt_inv.tolist()}
    sizes = {"sdd": given.sdd, "height": given.height, "width": given.width}
    return matrices | sizes | {"orthographic": given.orthographic}


def nanodrr_from_json(value: Mapping[str, Any], where: object = "") -> NanodrrGeometry:
    """The arguments by name; GeometryMissing names what is not there, BadConfig a k_inv that is singular or skewed."""
    k_inv = array_of(value, "k_inv", (3, 3), where)
    expected = np.zeros((3, 3), dtype=bool)
    expected[[0, 0, 1, 1, 2], [0, 2, 1, 2, 2]] = True
    if np.any(np.abs(k_inv[~expected]) > 1e-6 * np.abs(k_inv[0, 0])) or abs(np.linalg.det(k_inv)) < 1e-300:
        raise BadConfig("k_inv is no inverse of a pinhole's K", where=where, mend="pixels are rectangles here")
    width, height = size_of(value, ("width", "height"), where)
    rt_inv, sdd = array_of(value, "rt_inv", (4, 4), where), number_of(value, "sdd", where)
    return NanodrrGeometry(k_inv, rt_inv, sdd, height, width, bool(value.get("orthographic", False)))
