"""Resumable work on disk: what a task was made from, a lock while it runs, and its result when it is done."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hierbmd.errors import BadConfig, OutputUnwritable
from hierbmd.io.atomic import read_json, write_json


def fingerprint(paths: Iterable[Path | None]) -> list[Any]:
    """What tells that files changed: each file's name, size and time of change, folders with all that is in them."""
    found: list[Any] = []
    for path in paths:
        files = [] if path is None else sorted(path.rglob("*")) if path.is_dir() else [path]
        found.append([[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()])
    return found


def digest(value: Any) -> str:
    """A short hash of anything that JSON or str() can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]


def read_result(path: Path, made_from: str) -> Any | None:
    """A finished task's result; None when there is none, it is broken, or it was made from something else."""
    if not path.is_file():
        return None
    try:
        stored = read_json(path)
    except BadConfig:
        return None
    same = isinstance(stored, dict) and stored.get("made_from") == made_from
    return stored.get("result") if same else None


def write_result(path: Path, made_from: str, result: Any) -> None:
    """Mark a task as done, atomically."""
    write_json(path, {"made_from": made_from, "result": result})


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait until no other process works on the task of this file; the lock goes when its process does, even killed."""
    lock = path.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise OutputUnwritable(f"cannot write ({error.strerror})", where=lock, mend="give another --out") from None
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
