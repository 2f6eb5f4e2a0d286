"""Where a CT localizer (scout) was taken: it shares its frame with the CT, so its header is a whole geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hierbmd.errors import GeometryMissing
from hierbmd.geometry import Beam, Camera, ProjectionGeometry, View
from hierbmd.io import dicom_file, guards
from hierbmd.io.radiograph import KIND
from hierbmd.rigid import Vector, rigid_matrix

_NEEDED = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "DistanceSourceToDetector": 1,
    "DistanceSourceToPatient": 1,
    "Rows": 1,
    "Columns": 1,
}
_ALONG_TABLE = 0.999


def read_localizer_geometry(path: str | Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> ProjectionGeometry:
    """The slot camera and pose of a CT localizer, from its header alone.

    The image plane stands through the isocentre, where its spacing holds; its columns run along the table; the fan's
    middle is the middle of its rows; and the image is as the detector sees it, so that the source is on the side that
    row x column direction points away from. DICOM states no side of the source: a scanner that mirrors its localizers
    is not recognised. `view` is the nearest of AP, PA and LAT, whichever side a lateral was taken from.

    GeometryMissing when a tag is missing, or the columns do not run along the table.
    """
    dataset = dicom_file.read_dataset(Path(path), kind=KIND, max_gib=max_gib)
    with guards.decoding(KIND, Path(path)):
        values = {name: dicom_file.floats(dataset, name, count) for name, count in _NEEDED.items()}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise GeometryMissing("geometry missing: no " + ", ".join(missing), where=path, mend="give --geometry")
    tags: dict[str, Vector] = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    along, down = tags["ImageOrientationPatient"][:3], tags["ImageOrientationPatient"][3:]
    if abs(down[2]) < _ALONG_TABLE:
        raise GeometryMissing("the localizer's columns do not run along the table", where=path, mend="give --geometry")
    sdd_mm, isocentre_mm = (float(tags[f"DistanceSourceTo{end}"][0]) for end in ("Detector", "Patient"))
    size_px = (int(tags["Columns"][0]), int(tags["Rows"][0]))
    spacing_mm = tags["PixelSpacing"][::-1]
    pixel_mm = (float(spacing_mm[0] * (sdd_mm / isocentre_mm)), float(spacing_mm[1]))
    camera = Camera(sdd_mm, size_px, pixel_mm, beam=Beam.SLOT)
    beam = np.cross(along, down)
    middle = tags["ImagePositionPatient"] + np.array([along, down]).T @ (np.array(camera.centre_px) * spacing_mm)
    rotation = np.stack([along, down, beam])
    pose = rigid_matrix(rotation, np.array([0.0, 0.0, isocentre_mm]) - rotation @ middle)
    return ProjectionGeometry(camera, pose, _nearest_view(beam))


def _nearest_view(beam: Vector) -> View:
    if abs(beam[0]) > abs(beam[1]):
        return View.LAT
    return View.AP if beam[1] > 0 else View.PA
