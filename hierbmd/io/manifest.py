"""Reading a cohort's manifest: a CSV with a header, whose paths stay inside its own folder."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from pathlib import Path

from hierbmd.data.calibration import INTERNAL
from hierbmd.data.manifest import PATH_COLUMNS, REQUIRED_COLUMNS, Manifest, ManifestRow, row_from_cells
from hierbmd.data.phantoms import phantom_names
from hierbmd.errors import BadManifest

_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NUMBERS = re.compile(r"[-+0-9.eE,;\s]*")


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest; BadManifest names the line of whatever cannot be trusted or found.

    Refused: a byte-order mark, a missing header or required column, a row that is too long or short, a spreadsheet
    formula, a path with `..`, a path or link that leaves the manifest's folder, a missing file, the same subject,
    radiograph and side twice. Columns beyond the known ones are kept.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    try:
        header = _header(path, next(reader, []))
        rows = [_row(path, header, cells, reader.line_num) for cells in reader if any(cells)]
    except csv.Error as error:
        raise BadManifest(f"not CSV ({error})", where=f"{path} line {reader.line_num}", mend="save as CSV") from None
    if not rows:
        raise BadManifest("no row under the header", where=f"{path} line 2", mend="add a row for each radiograph")
    _require_distinct(path, rows)
    return Manifest(path, tuple(rows))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadManifest(f"cannot read ({error.strerror})", where=path, mend="check the path") from None
    if raw.startswith(_BYTE_ORDER_MARKS):
        raise BadManifest("a byte-order mark", where=f"{path} line 1", mend="save as UTF-8 without one")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadManifest("not UTF-8 text", where=f"{path} line {line}", mend="save as UTF-8") from None


def _header(path: Path, header: list[str]) -> list[str]:
    if not set(REQUIRED_COLUMNS) <= set(header):
        raise BadManifest(
            "no header with " + ", ".join(REQUIRED_COLUMNS), where=f"{path} line 1", mend="name the columns"
        )
    if len(set(header)) < len(header):
        raise BadManifest("a column is named twice", where=f"{path} line 1", mend="name each column once")
    return header


def _row(path: Path, header: list[str], cells: list[str], line: int) -> ManifestRow:
    where = f"{path} line {line}"
    if len(cells) != len(header):
        raise BadManifest(f"{len(cells)} cells under {len(header)} columns", where=where, mend="check the commas")
    by_name = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    for name, cell in by_name.items():
        _refuse_formula(name, cell, where)
    root = path.resolve().parent
    named = by_name.get("calibration") in (*phantom_names(), INTERNAL)
    files = [name for name in PATH_COLUMNS if by_name.get(name) and not (name == "calibration" and named)]
    paths = {name: _inside(root, by_name[name], name, where) for name in files}
    return row_from_cells(by_name, paths, line=line, where=where)


def _refuse_formula(name: str, cell: str, where: str) -> None:
    """A cell that a spreadsheet would run is refused: whoever opens the table later should not run it (OWASP)."""
    if cell[:1] in ("=", "@") or (cell[:1] in ("+", "-") and not _NUMBERS.fullmatch(cell)):
        raise BadManifest(f"a spreadsheet formula in column {name}", where=where, mend="write the value")


def _inside(root: Path, cell: str, name: str, where: str) -> Path:
    given = Path(cell)
    if ".." in given.parts:
        raise BadManifest(f"{name} {cell!r} goes up with '..'", where=where, mend="keep files under the manifest")
    full = root / given
    if not os.path.exists(full):
        raise BadManifest(f"{name} {cell!r} is missing", where=where, mend="paths are relative to the manifest")
    members = [full, *full.rglob("*")] if full.is_dir() else [full]
    if not all(member.resolve().is_relative_to(root) for member in members):
        raise BadManifest(f"{name} {cell!r} leaves the manifest's folder", where=where, mend="copy the file there")
    return full


def _require_distinct(path: Path, rows: list[ManifestRow]) -> None:
    first: dict[object, int] = {}
    for row in rows:
        earlier = first.setdefault((row.subject, row.radiograph, row.side), row.line)
        if earlier != row.line:
            raise BadManifest(f"the same as line {earlier}", where=f"{path} line {row.line}", mend="remove one of them")
