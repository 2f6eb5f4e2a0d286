"""Plain tables of results: CSV with a header, written whole and read back."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hierbmd.errors import BadManifest
from hierbmd.io.atomic import atomic_path


def write_table(path: str | Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under the given columns, atomically; None is an empty cell, and what is not a column is left out."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: str | Path) -> tuple[Mapping[str, str], ...]:
    """The rows of a CSV file with a header; BadManifest when it cannot be read."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            return tuple(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadManifest(
            f"not a readable table ({error})", where=path, mend="run the command before it again"
        ) from None
