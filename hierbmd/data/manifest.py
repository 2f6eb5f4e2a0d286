"""A cohort's manifest: which CT, label map and radiograph belong to which subject, and what is known of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hierbmd.data.splits import SPLITS
from hierbmd.errors import BadManifest, SuspectedUnit
from hierbmd.geometry import Motion, Side, View

REQUIRED_COLUMNS = ("subject", "ct", "radiograph")
PATH_COLUMNS = ("ct", "labels", "radiograph", "calibration")
KNOWN_COLUMNS = (
    *("subject", "ct", "labels", "radiograph", "view", "side", "pose", "calibration", "bmd_g_cm2", "bmd_source"),
    *("age", "sex", "height_cm", "weight_kg", "split"),
)

Choice = TypeVar("Choice", Side, View)

_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SEXES = {"": "", "f": "F", "female": "F", "m": "M", "male": "M", "o": "O", "other": "O"}
_RANGES = {
    "age": (0.0, 120.0, "years"),
    "height_cm": (60.0, 250.0, "cm, not m or mm"),
    "weight_kg": (15.0, 400.0, "kg, not g"),
    "bmd_g_cm2": (0.1, 2.5, "g/cm2, not mg/cm2 or mg/cm3"),
}


@dataclass(frozen=True)
class ManifestRow:
    """One row: paths are resolved, empty cells are None or "", columns that hierbmd does not know are in `extra`.

    `side` says which side or sides of the radiograph to use; `pose` is the patient's motion at the start of
    registration; `calibration` is a line's or a rod table's file, or `phantom` names what lies in the scan; `line` is
    the row's line in the file. `called` stands for the radiograph's name where the row goes by a pseudonym.
    """

    line: int
    subject: str
    ct: Path
    radiograph: Path
    labels: Path | None = None
    view: View | None = None
    side: Side | None = None
    pose: Motion | None = None
    calibration: Path | None = None
    phantom: str = ""
    bmd_g_cm2: float | None = None
    bmd_source: str = ""
    age: float | None = None
    sex: str = ""
    height_cm: float | None = None
    weight_kg: float | None = None
    split: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    called: str = ""

    @property
    def radiograph_name(self) -> str:
        """What results call the radiograph."""
        return self.called or self.radiograph.name


@dataclass(frozen=True)
class Manifest:
    """A cohort: `rows` in the file's order; every path lies under `root`, the manifest's folder."""

    path: Path
    rows: tuple[ManifestRow, ...]

    @property
    def root(self) -> Path:
        """The folder that the manifest lies in and its paths are relative to."""
        return self.path.parent

    @property
    def subjects(self) -> tuple[str, ...]:
        """Each subject once, in order of appearance."""
        return tuple(dict.fromkeys(row.subject for row in self.rows))


def row_from_cells(cells: Mapping[str, str], paths: Mapping[str, Path | None], *, line: int, where: str) -> ManifestRow:
    """A row from its cells and its resolved paths; refusals name `where` (file and line) and the column.

    Errors: BadManifest; SuspectedUnit for a height in metres and the like.
    """
    subject = cells.get("subject", "")
    if not _SUBJECT.fullmatch(subject):
        raise BadManifest(f"subject {subject!r} is no id", where=where, mend="letters, digits, dot, dash, underscore")
    numbers = {name: _number(name, cells.get(name, ""), where) for name in _RANGES}
    ct, radiograph = paths.get("ct"), paths.get("radiograph")
    if ct is None or radiograph is None:
        raise BadManifest("a row needs a ct and a radiograph", where=where, mend="fill both cells")
    side = _choice(Side, "side", cells.get("side", ""), where)
    if numbers["bmd_g_cm2"] is not None and side not in (Side.LEFT, Side.RIGHT):
        raise BadManifest("bmd_g_cm2 is of one side", where=where, mend="give side left or right, one row a side")
    return ManifestRow(
        line=line,
        subject=subject,
        ct=ct,
        radiograph=radiograph,
        labels=paths.get("labels"),
        calibration=paths.get("calibration"),
        phantom="" if paths.get("calibration") else cells.get("calibration", ""),
        view=_choice(View, "view", cells.get("view", ""), where),
        side=side,
        pose=_pose(cells.get("pose", ""), where),
        bmd_source=cells.get("bmd_source", ""),
        sex=_sex(cells.get("sex", ""), where),
        split=_split(cells.get("split", ""), where),
        extra={name: text for name, text in cells.items() if name not in KNOWN_COLUMNS},
        called="",
        **numbers,
    )


def _number(name: str, text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise BadManifest(f"{name} {text!r} is not a number", where=where, mend="correct the cell") from None
    low, high, unit = _RANGES[name]
    if not low <= value <= high:
        raise SuspectedUnit(f"{name} {value:g} is out of range {low:g} to {high:g}", where=where, mend=f"give {unit}")
    return value


def _choice(kind: type[Choice], name: str, text: str, where: str) -> Choice | None:
    by_name = {member.value.lower(): member for member in kind}
    if text and text.lower() not in by_name:
        choices = ", ".join(member.value for member in kind)
        raise BadManifest(f"{name} {text!r} is not one of {choices}", where=where, mend="correct the cell")
    return by_name.get(text.lower())


def _sex(text: str, where: str) -> str:
    if text.lower() not in _SEXES:
        raise BadManifest(f"sex {text!r} is not one of F, M, O", where=where, mend="correct the cell")
    return _SEXES[text.lower()]


def _split(text: str, where: str) -> str:
    if text and text not in SPLITS:
        raise BadManifest(f"split {text!r} is not one of {', '.join(SPLITS)}", where=where, mend="correct the cell")
    return text


def _pose(text: str, where: str) -> Motion | None:
    if not text:
        return None
    try:
        numbers = [float(part) for part in re.split(r"[\s,;]+", text)]
        return Motion(*numbers) if len(numbers) == 6 else _not_a_pose(text, where)
    except ValueError:
        return _not_a_pose(text, where)


def _not_a_pose(text: str, where: str) -> Motion:
    raise BadManifest(f"pose {text!r} is not six numbers", where=where, mend="give rx ry rz tx ty tz, deg and mm")
