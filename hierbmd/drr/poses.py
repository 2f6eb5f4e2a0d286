"""Poses from a CSV file: motions of the patient about the isocentre, one a line."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from hierbmd.errors import BadConfig
from hierbmd.geometry import Motion, ProjectionGeometry
from hierbmd.rigid import Vector, moved

COLUMNS = ("rx", "ry", "rz", "tx", "ty", "tz")
"""Degrees and millimetres in camera axes, as `--pose` takes them."""

_FARTHEST_MM = 10_000.0


def read_poses(path: str | Path) -> tuple[Motion, ...]:
    """The motions of a CSV file: six numbers a line, or columns of any order under a header that names the six.

    Degrees and millimetres. Empty lines are skipped. BadConfig names the line of what is not six finite numbers.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"not a readable poses file ({error})", where=path, mend="give a CSV file") from None
    order = list(COLUMNS)
    motions: list[Motion] = []
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if not motions and order == list(COLUMNS) and any(cell in COLUMNS for cell in cells):
            order = _header(cells, f"{path} line {number}")
            continue
        motions.append(_motion(cells, order, f"{path} line {number}"))
    if not motions:
        raise BadConfig("no pose in the file", where=path, mend="one line a pose: " + ",".join(COLUMNS))
    return tuple(motions)


def motion_from_six(six: tuple[float, ...], where: object = "") -> Motion:
    """The motion (rx, ry, rz, tx, ty, tz), degrees and mm; BadConfig unless they are six finite numbers in range."""
    if len(six) != len(COLUMNS) or not all(math.isfinite(x) for x in six):
        raise BadConfig(f"a pose is six finite numbers, not {len(six)}", where=where, mend=",".join(COLUMNS))
    if max(abs(x) for x in six[3:]) > _FARTHEST_MM:
        raise BadConfig(f"a translation of {max(six[3:], key=abs):g} mm", where=where, mend="translations are in mm")
    return Motion(*(float(x) for x in six))


def geometry_after(geometry: ProjectionGeometry, motion: Motion, isocentre_world_mm: Vector) -> ProjectionGeometry:
    """The geometry after the patient's motion about the isocentre (LPS mm) in camera axes."""
    from scipy.spatial.transform import Rotation

    twist = np.concatenate([Rotation.from_matrix(motion.rotation).as_rotvec(), motion.translation_mm])
    return replace(geometry, camera_from_world=moved(geometry.camera_from_world, twist, isocentre_world_mm))


def _header(cells: list[str], where: str) -> list[str]:
    if any(cells.count(name) != 1 for name in COLUMNS):
        raise BadConfig("the header does not name each of the six once", where=where, mend=",".join(COLUMNS))
    return cells


def _motion(cells: list[str], order: list[str], where: str) -> Motion:
    if len(cells) != len(order):
        raise BadConfig(
            f"{len(cells)} cells, not {len(order)}", where=where, mend="one line a pose: " + ",".join(order)
        )
    by_name = dict(zip(order, cells, strict=True))
    try:
        six = tuple(float(by_name[name]) for name in COLUMNS)
    except ValueError as error:
        raise BadConfig(f"not a number ({error})", where=where, mend="degrees and millimetres") from None
    return motion_from_six(six, where)
