"""The review page: a whole cohort's registrations, worst first, for a person to accept or reject with a key each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.io.atomic import atomic_path
from hierbmd.io.decisions import ACCEPT, REJECT, VERSION, Decision
from hierbmd.io.tables import write_table
from hierbmd.report.curves import curves
from hierbmd.report.embedded import jpeg_file
from hierbmd.report.frame import banners, resource
from hierbmd.report.words import figure, number, table

PAGE_FILE, TABLE_FILE = "review.html", "review.csv"
DECISIONS_FILE = "decisions.json"
REASONS = (
    "the outline is off the bone",
    "another patient or side",
    "metal, a cast or a fracture",
    "the radiograph is not usable",
)
"""What the keys 1 to 4 reject for."""

_COLUMNS = ("place", "whose", "title", "source", "doubt", "decision", "reason", "key")
_STANDARD_ERRORS = {
    "in_plane_mm": ("in plane, over the surface", "mm"),
    "tx_mm": ("along columns", "mm"),
    "ty_mm": ("along rows", "mm"),
    "depth_mm": ("depth, weak in one view", "mm"),
    "rx_deg": ("turn about x", "deg"),
    "ry_deg": ("turn about y", "deg"),
    "rz_deg": ("turn about the beam", "deg"),
}


@dataclass(frozen=True)
class Entry:
    """One thing to decide on: the bones of one side of one radiograph, or one bone.

    `key` names it in the file of decisions, `title` and `source` are shown: they tell no patient. `bones` holds what
    `registration.review.review_of` made, by bone, and `pictures` where their overlays are; a bone without one is
    withheld. `whose` is what review.csv says of it, for those who may know. `refused` says why it is no pair already:
    nothing is left to decide.
    """

    key: str
    title: str
    source: str
    bones: Mapping[str, Mapping[str, Any]]
    pictures: Mapping[str, Path]
    whose: str
    refused: str = ""
    decision: Decision | None = None

    @property
    def doubt(self) -> float:
        """The doubtfullest bone's; infinite for what is refused already."""
        doubts = [bone["doubt"] for bone in self.bones.values()]
        return float("inf") if self.refused or None in doubts else max(doubts, default=0.0)


def write_review_page(out: str | Path, entries: Sequence[Entry], *, simulated: bool = False) -> Path:
    """Write `review.html` and `review.csv` into a folder; the page is returned.

    The page is one file with a script in it and needs no network: its policy forbids any. The table says which key is
    at which place, and stays where patients have names.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.doubt, entry.key))
    page = Template(resource("review.html")).substitute(
        style=resource("style.css") + resource("review.css"),
        script=resource("review.js"),
        banners=banners(["SIMULATED: virtual patients and radiographs."] * simulated + [RESEARCH_USE_ONLY]),
        lead=_lead(ordered),
        reasons="".join(f"<li><kbd>{n}</kbd> {escape(reason)}</li>" for n, reason in enumerate(REASONS, start=1)),
        entries="".join(_article(entry, place, len(ordered)) for place, entry in enumerate(ordered, start=1)),
        version=VERSION,
        file=DECISIONS_FILE,
        footer=escape(RESEARCH_USE_ONLY),
    )
    path = Path(out) / PAGE_FILE
    write_table(Path(out) / TABLE_FILE, _COLUMNS, [_row(entry, place) for place, entry in enumerate(ordered, start=1)])
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _lead(entries: Sequence[Entry]) -> str:
    refused = sum(bool(entry.refused) for entry in entries)
    return escape(
        f"{len(entries)} registrations, the worst first: {refused} refused already, {len(entries) - refused} to decide "
        "on. The rest is ordered by doubt: how near a similarity or a standard error came to its limit, which is 1."
    )


def _row(entry: Entry, place: int) -> dict[str, Any]:
    decision = entry.decision
    said = "refused" if entry.refused else "" if decision is None else ACCEPT if decision.accepted else REJECT
    reason = entry.refused or ("" if decision is None else decision.reason)
    doubt = "" if entry.doubt == float("inf") else entry.doubt
    facts = {"key": entry.key, "whose": entry.whose, "title": entry.title, "source": entry.source}
    return {"place": place, **facts, "doubt": doubt, "decision": said, "reason": reason}


def _article(entry: Entry, place: int, count: int) -> str:
    decision = entry.decision
    said = "" if decision is None else ACCEPT if decision.accepted else REJECT
    state = f'data-key="{escape(entry.key, quote=True)}" data-refused="{int(bool(entry.refused))}"'
    state += f' data-decision="{said}" data-reason="{escape("" if decision is None else decision.reason, quote=True)}"'
    doubt = "" if entry.doubt == float("inf") else f"; doubt {entry.doubt:.2f}"
    why = f'<p class="refused">Refused already: {escape(entry.refused)}</p>' if entry.refused else ""
    bones = "".join(_bone(name, bone, entry.pictures.get(name)) for name, bone in entry.bones.items())
    return (
        f'<article class="entry" {state}><h2>{place} of {count}: {escape(entry.title)}'
        f'<span class="aside">{escape(entry.source)}{doubt}</span><output class="said"></output></h2>'
        f'{why}<div class="bones">{bones}</div></article>'
    )


def _bone(name: str, bone: Mapping[str, Any], picture: Path | None) -> str:
    """A bone's strip (outline, checkerboard) beside what is known of its pose."""
    title = name.replace("_", " ")
    if picture is None:
        shown = '<p class="withheld">Image withheld: the radiograph carries burned-in annotation.</p>'
    else:
        alt = f"The radiograph around the {title} with the projected outline on it; tiles of radiograph and projection."
        shown = figure(jpeg_file(picture), alt=alt)
    state = "converged" if bone["outcome_code"] == "converged" else "lost"
    agreeing = f"; {bone['agreeing_starts']} of {bone['start_count']} starts agree" if bone["start_count"] else ""
    errors = bone["uncertainty"]
    facts = [[words, _error(errors[axis], unit)] for axis, (words, unit) in _STANDARD_ERRORS.items()]
    return (
        f'<section class="bone"><h3>{escape(title)} <span class="{state}">{escape(bone["outcome"])}</span></h3>{shown}'
        f'<p class="note">similarity {number(bone["similarity"])}{agreeing}</p>'
        f'<div class="row">{table(["standard errors", ""], facts)}<div>{curves(bone["trajectory"])}</div></div>'
        "</section>"
    )


def _error(value: float | None, unit: str) -> str:
    return "not determined" if value is None else f"{value:.2f} {unit}"
