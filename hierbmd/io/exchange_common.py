"""What the modules that speak other programs' geometry share: frames, what a format cannot say, numbers from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.errors import BadConfig, GeometryMissing
from hierbmd.geometry import Beam, Camera
from hierbmd.io.guards import require_file
from hierbmd.rigid import Matrix

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Half a turn about the patient's long axis; its own inverse."""

_LARGEST_TEXT = 1_000_000


def require_cone(camera: Camera, name: str) -> None:
    """Refuse a beam that a format has no word for (BadConfig)."""
    if camera.beam is not Beam.CONE:
        raise BadConfig(f"{name} cannot say a {camera.beam} beam", mend="only a cone beam")


def array_of(value: Mapping[str, Any], key: str, shape: tuple[int, ...], where: object = "") -> Matrix:
    """The finite numbers of a key as an array of this shape; GeometryMissing where there are none."""
    try:
        found = np.array(value[key], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        found = np.full(1, np.nan)
    if found.shape != shape or not np.all(np.isfinite(found)):
        wanted = "x".join(map(str, shape)) + " finite numbers" if shape else "a finite number"
        raise GeometryMissing(f"geometry missing: {key} is not {wanted}", where=where, mend="write the file again")
    return found


def number_of(value: Mapping[str, Any], key: str, where: object = "") -> float:
    """The finite number of a key; GeometryMissing where there is none."""
    return float(array_of(value, key, (), where))


def size_of(value: Mapping[str, Any], keys: tuple[str, str], where: object = "") -> tuple[int, int]:
    """Columns and rows from two keys; GeometryMissing unless both are whole numbers above zero."""
    width, height = (number_of(value, key, where) for key in keys)
    if width != int(width) or height != int(height) or min(width, height) < 1:
        raise GeometryMissing(f"{keys[0]} {width:g}, {keys[1]} {height:g} are no image size", where=where)
    return int(width), int(height)


def text_of(path: str | Path) -> str:
    """The text of a small file; UnreadableFile (missing, empty), BadConfig where it is no text."""
    file = require_file("geometry", path)
    try:
        return file.read_bytes()[:_LARGEST_TEXT].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadConfig("not a text file", where=path, mend="give the format's text or JSON") from None
