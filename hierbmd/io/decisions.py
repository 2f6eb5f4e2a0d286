"""What a person decided on the pairs of a cohort: the file that the review page saves and `prepare` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierbmd.errors import BadConfig
from hierbmd.io.atomic import read_json
from hierbmd.io.tasks import digest

VERSION = 1
ACCEPT, REJECT = "accept", "reject"
_REASON_CHARACTERS = 200
_MEND = "save it from the review page again"


@dataclass(frozen=True)
class Decision:
    """Whether a person accepted a pair, and why not; the reason is one line of plain text."""

    accepted: bool
    reason: str = ""


def decision_key(made_from: str, side: str) -> str:
    """The name of a pair on a page and in a file of decisions: it tells no patient, and another making has another.

    `made_from` is the digest of the task that made the pair: of its files with their times, and of every option. So a
    decision on an overlay that a person has not seen cannot be taken over.
    """
    return digest([made_from, side])


def read_decisions(path: str | Path) -> dict[str, Decision]:
    """The decisions of a file by key; BadConfig when it is not one."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("version") != VERSION or not isinstance(value.get("decisions"), dict):
        raise BadConfig("not a file of decisions", where=path, mend=_MEND)
    return {str(key): _decision(key, one, path) for key, one in value["decisions"].items()}


def _decision(key: str, value: Any, path: str | Path) -> Decision:
    said = value.get("decision") if isinstance(value, dict) else None
    reason = value.get("reason", "") if isinstance(value, dict) else None
    if said not in (ACCEPT, REJECT) or not isinstance(reason, str) or len(reason) > _REASON_CHARACTERS:
        raise BadConfig(f"not a decision: {key}", where=path, mend=f"{ACCEPT} or {REJECT}, with a short reason")
    return Decision(said == ACCEPT, " ".join(reason.split()))
