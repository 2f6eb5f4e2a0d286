"""What `hierbmd register` left, as entries of the review page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierbmd.errors import BadConfig
from hierbmd.io.atomic import read_json
from hierbmd.io.decisions import decision_key
from hierbmd.io.tasks import digest
from hierbmd.report.review import Entry

_MEND = "a folder that hierbmd register left, of this version"


def read_entries(folder: Path) -> list[Entry]:
    """One entry a bone, keyed by the registration itself; BadConfig when the folder holds none, or an overlay is gone.

    Folders are named after patients, so the page counts them by their key and review.csv names them.
    """
    path = folder / "registration.json"
    found = read_json(path)
    try:
        made_from = digest([found["start"], found["bones"]])
        withheld = bool(found["burned_in_annotation"])
        return [_entry(folder, name, bone, made_from, withheld=withheld) for name, bone in found["bones"].items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadConfig(f"not a registration ({error!r})", where=path, mend=_MEND) from None


def _entry(folder: Path, name: str, bone: Mapping[str, Any], made_from: str, *, withheld: bool) -> Entry:
    picture = folder / f"{name}.png"
    if not withheld and not picture.is_file():
        raise BadConfig("no overlay", where=picture, mend=_MEND)
    return Entry(
        key=decision_key(made_from, name),
        title=name.replace("_", " "),
        source=f"registration {made_from[:6]}",
        bones={name: bone},
        pictures={} if withheld else {name: picture},
        refused="" if bone["outcome_code"] == "converged" else bone["outcome"],
        whose=str(folder),
    )
