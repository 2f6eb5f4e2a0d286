"""Writes that happen whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hierbmd.errors import BadConfig, OutputUnwritable


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling; it takes the final name when the block ends well, and is removed otherwise.

    The parent folder is made. The temporary name keeps the suffixes, which writers go by. OutputUnwritable says why a
    folder cannot be written (read-only, disk full); what stood at `path` before is then still there.
    """
    final = Path(path)
    temporary = final.with_name(f".{os.getpid()}.tmp.{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputUnwritable(f"cannot write ({reason})", where=final, mend="give another --out") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file, two-space indent, atomically; NaN and infinity are refused (ValueError)."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; BadConfig when it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadConfig(f"not a readable JSON file ({reason})", where=path, mend="check the file") from None
