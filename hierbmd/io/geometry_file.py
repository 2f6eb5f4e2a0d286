"""The geometry file: the one way to say where things are, as JSON (DESIGN, section 2)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.errors import BadConfig, GeometryMissing, SuspectedUnit
from hierbmd.geometry import Beam, Camera, ProjectionGeometry, Side, View
from hierbmd.io.atomic import read_json, write_json
from hierbmd.rigid import require_rigid

FRAME = "LPS-mm"
"""The only frame of a geometry file: DICOM patient coordinates in millimetres."""

_REQUIRED = ("frame", "sdd_mm", "size_px", "pixel_mm", "camera_from_world", "view")
_OPTIONAL = ("principal_px", "side", "beam")

SDD_RANGE_MM = (50.0, 20_000.0)
"""Source-detector distances between a benchtop set-up and a full-spine room; 1.0 would be metres."""

PIXEL_RANGE_MM = (0.005, 50.0)
"""Pixel sizes between a microfocus detector's and a coarse preview's; 0.000143 would be metres."""


def read_geometry(path: str | Path) -> ProjectionGeometry:
    """Read a geometry file, or the `geometry` inside a result that holds one (`drr_0000.json`).

    `principal_px` defaults to the image's centre, `side` to "none", `beam` to "cone". Raises GeometryMissing (a key
    is missing or not a number), BadConfig (not JSON; an unknown key, frame, view, side or beam), SuspectedUnit (metres
    for mm), NotRigid.
    """
    value = read_json(path)
    if isinstance(value, dict) and isinstance(value.get("geometry"), dict):
        value = value["geometry"]
    return geometry_from_json(value, where=path)


def write_geometry(path: str | Path, geometry: ProjectionGeometry) -> None:
    """Write a geometry file, atomically; OutputUnwritable when the folder cannot be written."""
    write_json(path, geometry_to_json(geometry))


def geometry_to_json(geometry: ProjectionGeometry) -> dict[str, Any]:
    """The keys and values of a geometry file; `beam` only where it is not the cone that every reader takes it for."""
    camera = geometry.camera
    beam = {} if camera.beam is Beam.CONE else {"beam": camera.beam.value}
    return {
        "frame": FRAME,
        "sdd_mm": camera.sdd_mm,
        "size_px": list(camera.size_px),
        "pixel_mm": list(camera.pixel_mm),
        "principal_px": list(camera.centre_px),
        "camera_from_world": geometry.camera_from_world.tolist(),
        "view": geometry.view.value,
        "side": geometry.side.value,
    } | beam


def geometry_from_json(value: Any, where: object = "") -> ProjectionGeometry:
    """The geometry that a file's keys and values say; raises what `read_geometry` does, `where` named."""
    _check_keys(value, where)
    if value["frame"] != FRAME:
        raise BadConfig(f"unknown frame {value['frame']!r}", where=where, mend=f'the frame is "{FRAME}"')
    sdd_mm = _numbers(value, "sdd_mm", 0, where)[0]
    pixel_mm = _numbers(value, "pixel_mm", 2, where)
    size_px = _numbers(value, "size_px", 2, where)
    principal_px = _numbers(value, "principal_px", 2, where) if value.get("principal_px") is not None else None
    if any(size != int(size) or size < 1 for size in size_px):
        raise GeometryMissing(f"size_px {value['size_px']} is no image size", where=where, mend="[columns, rows]")
    check_ranges(sdd_mm, (pixel_mm[0], pixel_mm[1]), where)
    camera = Camera(
        sdd_mm=sdd_mm,
        size_px=(int(size_px[0]), int(size_px[1])),
        pixel_mm=(pixel_mm[0], pixel_mm[1]),
        principal_px=None if principal_px is None else (principal_px[0], principal_px[1]),
        beam=Beam(_one_of(value.get("beam", "cone"), [b.value for b in Beam], "beam", where)),
    )
    return ProjectionGeometry(
        camera,
        require_rigid(_matrix(value, where), where),
        View(_one_of(value["view"], [v.value for v in View], "view", where)),
        Side(_one_of(value.get("side", "none"), [s.value for s in Side], "side", where)),
    )


def check_ranges(sdd_mm: float, pixel_mm: tuple[float, float], where: object = "") -> None:
    """Refuse distances that only another unit explains (SuspectedUnit), and those not above zero (GeometryMissing)."""
    for name, value, (low, high) in (
        ("sdd_mm", sdd_mm, SDD_RANGE_MM),
        ("pixel_mm", min(pixel_mm), PIXEL_RANGE_MM),
        ("pixel_mm", max(pixel_mm), PIXEL_RANGE_MM),
    ):
        if value <= 0:
            raise GeometryMissing(f"{name} {value:g} is not above zero", where=where, mend="give it in mm")
        if value < low:
            raise SuspectedUnit(f"{name} {value:g} looks like metres", where=where, mend="give millimetres")
        if value > high:
            raise SuspectedUnit(f"{name} {value:g} looks like micrometres", where=where, mend="give millimetres")


def _check_keys(value: Any, where: object) -> None:
    if not isinstance(value, dict):
        raise GeometryMissing("geometry missing: the file holds no JSON object", where=where, mend=f"keys: {_REQUIRED}")
    missing = [key for key in _REQUIRED if key not in value]
    if missing:
        raise GeometryMissing("geometry missing: no " + ", ".join(missing), where=where, mend="add the keys")
    for key in value:
        if key not in (*_REQUIRED, *_OPTIONAL):
            close = difflib.get_close_matches(str(key), (*_REQUIRED, *_OPTIONAL), n=1)
            mend = f"nearest key: {close[0]}" if close else "keys: " + ", ".join((*_REQUIRED, *_OPTIONAL))
            raise BadConfig(f"unknown key {key!r} in the geometry", where=where, mend=mend)


def _numbers(value: dict[str, Any], key: str, length: int, where: object) -> list[float]:
    """The finite numbers of a key: a single one for length 0."""
    found = value[key] if length else [value[key]]
    if isinstance(found, list) and len(found) == max(length, 1) and all(_is_number(x) for x in found):
        return [float(x) for x in found]
    wanted = f"{length} finite numbers" if length else "one finite number"
    raise GeometryMissing(f"{key} is not {wanted}: {value[key]!r}", where=where, mend="write numbers, in mm or pixels")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _matrix(value: dict[str, Any], where: object) -> Any:
    rows = value["camera_from_world"]
    whole = isinstance(rows, list) and len(rows) == 4 and all(isinstance(row, list) and len(row) == 4 for row in rows)
    if not whole or not all(_is_number(x) for row in rows for x in row):
        raise GeometryMissing(
            "camera_from_world is not a 4x4 of finite numbers", where=where, mend="four rows of four numbers"
        )
    return rows


def _one_of(value: Any, known: list[str], key: str, where: object) -> str:
    if value not in known:
        raise BadConfig(f"unknown {key} {value!r}", where=where, mend="one of " + ", ".join(known))
    return str(value)
