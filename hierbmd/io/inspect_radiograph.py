"""The facts of a radiograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.geometry import Side, View
from hierbmd.io import guards
from hierbmd.io.orientation import view_orientation
from hierbmd.io.radiograph import RadiographOptions, StatedRadiograph, read_stated, resolve


def inspect_radiograph(
    path: Path, *, max_gib: float = guards.DEFAULT_MAX_GIB
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a radiograph states of itself, and which options it needs beside it.

    Raises the refusals of damaged files, and of files that contradict themselves.
    """
    stated = read_stated(path, max_gib=max_gib)
    missing = _missing(stated)
    if not missing or all(not line.startswith(("polarity", "orientation")) for line in missing):
        resolve(stated, RadiographOptions(), where=path)
    height, width = stated.stored.shape
    facts: dict[str, Any] = {
        "format": stated.file_format,
        "size_px": [width, height],
        "bits_stored": stated.bits_stored,
        "transfer_syntax": stated.transfer_syntax or None,
        "polarity": _polarity_words(stated),
        "polarity_source": stated.polarity_source or None,
        "response": stated.response,
        "value_range": [float(stated.stored.min()), float(stated.stored.max())],
        "clipped_share": _clipped_share(stated),
        "pixel_mm": list(stated.spacings[0].pixel_mm) if stated.spacings else None,
        "pixel_mm_source": stated.spacings[0].tag if stated.spacings else None,
        "sdd_mm": stated.sdd_mm,
        "source_isocentre_mm": stated.source_isocentre_mm,
        "view": stated.view_text or None,
        "side": None if stated.side is None else str(stated.side),
        "patient_orientation": None if stated.patient_orientation is None else ",".join(stated.patient_orientation),
        "hanging": _hanging(stated),
        "notes": list(stated.notes),
    }
    return facts, missing


def _polarity_words(stated: StatedRadiograph) -> str | None:
    if stated.bone_bright is None:
        return None
    return "bright bone" if stated.bone_bright else "dark bone as stored, turned over on reading"


def _clipped_share(stated: StatedRadiograph) -> float:
    """The share of pixels at either end of what the bits can hold."""
    ends = stated.stored_range
    return round(float(np.mean((stated.stored <= ends[0]) | (stated.stored >= ends[1]))), 4)


def _hanging(stated: StatedRadiograph) -> str | None:
    """How the stored image hangs against its view's camera frame."""
    if stated.view is None or stated.patient_orientation is None:
        return None
    wanted = view_orientation(stated.view)
    found = tuple(code[:1] for code in stated.patient_orientation)
    if found == wanted:
        return f"as the {stated.view} camera sees it"
    return f"not as the {stated.view} camera sees it ({','.join(wanted)}): turned on reading"


def _missing(stated: StatedRadiograph) -> tuple[str, ...]:
    lines = []
    if stated.bone_bright is None:
        lines.append("polarity: give --polarity bright-bone or dark-bone")
    if not stated.spacings:
        lines.append("pixel size on the detector: give --pixel-mm")
    if stated.sdd_mm is None:
        lines.append("source-detector distance: give --sdd-mm")
    if stated.view is None:
        said = f" (the file says {stated.view_text})" if stated.view_text else ""
        lines.append(f"view: give --view AP, PA or LAT{said}")
    elif stated.view is not View.AP and stated.patient_orientation is None:
        lines.append("orientation: give --patient-orientation")
    if stated.side in (None, Side.NONE):
        lines.append("side: give --side left, right or both")
    return tuple(lines)
