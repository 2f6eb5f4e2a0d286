"""A run's folder: `run.json` says what the run is, so that the same command goes on and another is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierbmd.errors import BadConfig, OutputUnwritable
from hierbmd.io.atomic import read_json
from hierbmd.io.weights import CARD_FILE

RUN_FILE = "run.json"

_TELLING = ("stage", "data_sha256", "start_sha256")


def run_is_finished(out: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder holds this run, done; BadConfig: another run, OutputUnwritable: something else.

    A run is told by `stage`, `config`, `data_sha256` and `start_sha256` of its identity, those of them that it has. A
    setting that the run's own version did not know counts as off.
    """
    if not (out / RUN_FILE).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputUnwritable("the folder holds something else", where=out, mend="give another --out")
        return False
    found = read_json(out / RUN_FILE)
    details = _differences(found.get("config", {}), identity.get("config", {}))
    changed = [key for key in _TELLING if found.get(key) != identity.get(key)]
    changed += ["config"] if details else []
    if changed:
        raise BadConfig(
            f"the folder holds a run with another {' and '.join(changed)} {' '.join(details[:4])}",
            where=out,
            mend="give another --out, or the settings it was begun with",
        )
    return bool(found.get("finished")) and (out / CARD_FILE).is_file()


def _differences(a: Any, b: Any, at: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(set(a) | set(b))
        return [d for key in keys for d in _differences(a.get(key), b.get(key), f"{at}.{key}".lstrip("."))]
    return [] if a == b or (a is None and b is False) else [f"{at}: {a} -> {b}"]
