"""Geometry files of other programs, by name: what each cannot say is refused, what each leaves out is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.errors import BadConfig, GeometryMissing
from hierbmd.geometry import Camera, Placement, ProjectionGeometry, Side, View
from hierbmd.io import exchange_dicom, exchange_diffdrr, exchange_matrix, exchange_nanodrr, exchange_plastimatch
from hierbmd.io.atomic import atomic_path, read_json, write_json
from hierbmd.io.dicom_file import has_dicom_magic, read_dataset
from hierbmd.io.exchange_common import text_of
from hierbmd.io.guards import require_file
from hierbmd.rigid import Matrix, Vector


@dataclass(frozen=True)
class Told:
    """What a format may leave out: which of these it needs, each says when it is missing.

    `isocentre_world_mm` (3,) is LPS mm: where the axis points for DICOM, the volume's centre for DiffDRR. `size_px` is
    columns, rows.
    """

    view: View | None = None
    side: Side = Side.NONE
    size_px: tuple[int, int] | None = None
    sdd_mm: float | None = None
    isocentre_world_mm: Vector | None = None
    source_isocentre_mm: float | None = None


def export_geometry(path: str | Path, geometry: ProjectionGeometry, name: str, told: Told) -> None:
    """Write a geometry as another program's file, whole or not at all.

    matrix: three lines of text; dicom, nanodrr, diffdrr: JSON; plastimatch: the text beside its images. Raises
    BadConfig (a format not known, a beam that it cannot say), GeometryMissing (a principal point that it cannot say, or
    something not told), OutputUnwritable.
    """
    content = _known(_WRITERS, name)(geometry, told)
    if isinstance(content, str):
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    else:
        write_json(path, content)


def import_geometry(path: str | Path, name: str, told: Told) -> ProjectionGeometry:
    """Read another program's file: those that `export_geometry` writes, any DICOM radiograph, a plastimatch command.

    Raises BadConfig, GeometryMissing (names what must be told), NotRigid, SuspectedUnit, UnreadableFile.
    """
    if told.view is None:
        raise GeometryMissing(f"{name} does not say the view", where=path, mend="give --view")
    camera, pose = _known(_READERS, name)(path, told)
    return ProjectionGeometry(camera, pose, told.view, told.side)


def _known(table: dict[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
    if name not in table:
        raise BadConfig(f"no geometry format {name!r}", mend="one of " + ", ".join(table))
    return table[name]


def _need(value: Any, what: str, name: str, flag: str, where: object = "") -> Any:
    if value is None:
        raise GeometryMissing(f"{name} does not say {what}", where=where, mend=f"give {flag}")
    return value


def _write_matrix(geometry: ProjectionGeometry, told: Told) -> str:
    matrix = exchange_matrix.matrix_from_geometry(geometry.camera, geometry.camera_from_world)
    return exchange_matrix.matrix_text(matrix)


def _write_dicom(geometry: ProjectionGeometry, told: Told) -> dict[str, Any]:
    return exchange_dicom.dicom_from_camera(geometry.camera, source_isocentre_mm=told.source_isocentre_mm)


def _write_nanodrr(geometry: ProjectionGeometry, told: Told) -> dict[str, Any]:
    given = exchange_nanodrr.nanodrr_from_geometry(geometry.camera, geometry.camera_from_world)
    return exchange_nanodrr.nanodrr_json(given)


def _write_diffdrr(geometry: ProjectionGeometry, told: Told) -> dict[str, Any]:
    centre = _volume_centre(told)
    given = exchange_diffdrr.diffdrr_from_geometry(geometry.camera, geometry.camera_from_world, centre)
    return exchange_diffdrr.diffdrr_json(given)


def _write_plastimatch(geometry: ProjectionGeometry, told: Told) -> str:
    return exchange_plastimatch.plastimatch_text(
        geometry.camera, geometry.camera_from_world, source_isocentre_mm=told.source_isocentre_mm
    )


def _read_matrix(path: Path, told: Told) -> tuple[Camera, Matrix]:
    size_px = _need(told.size_px, "the image's size", "a matrix", "--size", path)
    sdd_mm = _need(told.sdd_mm, "the distance to the detector", "a matrix", "--sdd-mm", path)
    matrix = exchange_matrix.matrix_from_text(text_of(path), path)
    return exchange_matrix.geometry_from_matrix(matrix, size_px, sdd_mm=sdd_mm, where=path)


def _read_dicom(path: Path, told: Told) -> tuple[Camera, Matrix]:
    if has_dicom_magic(require_file("radiograph", path)):
        dataset = read_dataset(path, kind="radiograph", pixels=False)
        tags = {name: dataset.get(name) for name in exchange_dicom.KEYWORDS}
    else:
        tags = _object(path)
    camera = exchange_dicom.camera_from_dicom(tags, path)
    depth_mm = told.source_isocentre_mm
    if depth_mm is None:
        stored = tags.get("DistanceSourceToPatient")
        depth_mm = float(_need(stored or None, "DistanceSourceToPatient", "the file", "--source-isocenter-mm", path))
    isocentre = _need(told.isocentre_world_mm, "a pose", "DICOM", "--isocenter-mm or --ct, and --view", path)
    assert told.view is not None
    return camera, Placement(told.view, isocentre, depth_mm).camera_from_world()


def _read_nanodrr(path: Path, told: Told) -> tuple[Camera, Matrix]:
    return exchange_nanodrr.geometry_from_nanodrr(exchange_nanodrr.nanodrr_from_json(_object(path), path), path)


def _read_diffdrr(path: Path, told: Told) -> tuple[Camera, Matrix]:
    given = exchange_diffdrr.diffdrr_from_json(_object(path), path)
    return exchange_diffdrr.geometry_from_diffdrr(given, _volume_centre(told), path)


def _read_plastimatch(path: Path, told: Told) -> tuple[Camera, Matrix]:
    text = text_of(path)
    if "--nrm" in text or "-n " in text:
        given = exchange_plastimatch.plastimatch_from_command(text, path)
        return exchange_plastimatch.geometry_from_plastimatch(given, path)
    size_px = _need(told.size_px, "the image's size", "plastimatch's file", "--size", path)
    return exchange_plastimatch.geometry_from_plastimatch_text(text, size_px, path)


def _volume_centre(told: Told) -> Vector:
    centre = _need(told.isocentre_world_mm, "where the volume's centre is", "DiffDRR", "--ct or --isocenter-mm")
    return np.asarray(centre, dtype=np.float64)


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise GeometryMissing("geometry missing: the file holds no JSON object", where=path, mend="give the format's")
    return value


_WRITERS: dict[str, Callable[[ProjectionGeometry, Told], str | dict[str, Any]]] = {
    "matrix": _write_matrix,
    "dicom": _write_dicom,
    "nanodrr": _write_nanodrr,
    "diffdrr": _write_diffdrr,
    "plastimatch": _write_plastimatch,
}

_READERS: dict[str, Callable[[Path, Told], tuple[Camera, Matrix]]] = {
    "matrix": _read_matrix,
    "dicom": _read_dicom,
    "nanodrr": _read_nanodrr,
    "diffdrr": _read_diffdrr,
    "plastimatch": _read_plastimatch,
}
