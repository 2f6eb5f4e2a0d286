"""A radiograph's geometry as DICOM attributes by keyword (PS3.3, X-Ray Acquisition and Positioner)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hierbmd.errors import GeometryMissing
from hierbmd.geometry import Camera
from hierbmd.io.exchange_common import array_of, number_of, require_cone, size_of
from hierbmd.io.geometry_file import check_ranges

KEYWORDS = ("DistanceSourceToDetector", "ImagerPixelSpacing", "Rows", "Columns", "DistanceSourceToPatient")
"""What is written and read; the last is optional."""


def dicom_from_camera(camera: Camera, *, source_isocentre_mm: float | None = None) -> dict[str, Any]:
    """The DICOM attributes of a camera by keyword; ImagerPixelSpacing is rows' spacing, then columns' (PS3.3 10.7.1.3).

    A radiograph's attributes hold no pose and no principal point: GeometryMissing when that is not the image's centre;
    BadConfig for a beam other than the cone.
    """
    require_cone(camera, "DICOM")
    width, height = camera.size_px
    if not np.allclose(camera.centre_px, ((width - 1) / 2, (height - 1) / 2), atol=1e-6):
        raise GeometryMissing("DICOM has no place for a principal point off the centre", mend="write a geometry file")
    du, dv = camera.pixel_mm
    tags: dict[str, Any] = {"DistanceSourceToDetector": camera.sdd_mm, "ImagerPixelSpacing": [dv, du]}
    tags |= {"Rows": height, "Columns": width}
    return tags if source_isocentre_mm is None else tags | {"DistanceSourceToPatient": source_isocentre_mm}


def camera_from_dicom(tags: Mapping[str, Any], where: object = "") -> Camera:
    """The camera that DICOM attributes, by keyword, say; GeometryMissing names those that are not there."""
    missing = [name for name in KEYWORDS[:4] if tags.get(name) in (None, "")]
    if missing:
        raise GeometryMissing(
            "geometry missing: no " + ", ".join(missing), where=where, mend="give --sdd-mm, --pixel-mm"
        )
    dv, du = (float(x) for x in array_of(tags, "ImagerPixelSpacing", (2,), where))
    sdd_mm = number_of(tags, "DistanceSourceToDetector", where)
    check_ranges(sdd_mm, (du, dv), where)
    return Camera(sdd_mm, size_of(tags, ("Columns", "Rows"), where), (du, dv))
