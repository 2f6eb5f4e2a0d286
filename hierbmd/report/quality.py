"""The quality page: each manifest row's calibration, labels and regions, what is refused or doubtful first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.report.embedded import jpeg_file
from hierbmd.report.frame import write_page
from hierbmd.report.words import figure, number, table

PAGE_FILE = "quality.html"

_WHAT = {
    "calibration": "The calibration: rods (or tissues) on the scan, what they read, residuals, drift.",
    "labels": "The labels on an axial, a coronal and a sagittal plane; the patient's left is on the right.",
}


@dataclass(frozen=True)
class QualityEntry:
    """What the page shows of one row: `quality` as `pairing.quality` left it, None for a row refused before that.

    `source` says where it comes from and tells no patient; `refused` why sides are no pairs; `folder` is what
    pictures' names are relative to, and `pairs` are the pictures of the pairs that came of it, None for one that is
    withheld.
    """

    source: str
    refused: Sequence[str]
    quality: Mapping[str, Any] | None
    folder: Path
    pairs: Mapping[str, Path | None]

    @property
    def flags(self) -> list[str]:
        """What calls for a second look."""
        return [] if self.quality is None else list(self.quality["flags"])

    @property
    def order(self) -> tuple[bool, bool, int, int]:
        """Refused as a whole first, then those with refused sides, then by how many flags."""
        return self.quality is not None, not self.refused, -len(self.refused), -len(self.flags)


def write_quality_page(out: str | Path, entries: Sequence[QualityEntry], *, simulated: bool = False) -> Path:
    """Write `quality.html` into a folder: one file with every picture in it, no script, no network; returns it."""
    ordered = sorted(entries, key=lambda entry: entry.order)
    refused, flagged = sum(bool(one.refused) for one in entries), sum(bool(one.flags) for one in entries)
    path = Path(out) / PAGE_FILE
    write_page(
        path,
        title="Quality of the measurements",
        lead=f"{len(entries)} rows of the manifest, the worst first: {refused} with refusals, {flagged} with flags.",
        metrics={"simulated": simulated, "research_use_only": RESEARCH_USE_ONLY},
        sections={entry.source: _article(entry) for entry in ordered} or {"Nothing": "<p>No row.</p>"},
    )
    return path


def _article(entry: QualityEntry) -> str:
    said = [f'<li class="refused">refused: {escape(why)}</li>' for why in entry.refused]
    said += [f"<li>{escape(flag)}</li>" for flag in entry.flags]
    listed = f"<ul>{''.join(said)}</ul>" if said else '<p class="note">Nothing to doubt was found.</p>'
    if entry.quality is None:
        return listed
    pictures = entry.quality["pictures"]
    shown = [figure(jpeg_file(entry.folder / path), alt=_WHAT[what]) for what, path in pictures.items()]
    return (
        listed + _line(entry.quality["calibration"]) + "".join(shown) + _labels(entry.quality["labels"]) + _sides(entry)
    )


def _line(line: Mapping[str, Any]) -> str:
    named = {"phantom": line["phantom"], "internal": "INTERNAL, the patient's own tissues", "given": "given"}
    error = "" if line["slope_se"] is None else f" \N{PLUS-MINUS SIGN} {line['slope_se']:.4f}"
    residual = "" if line["residual_mg_cm3"] is None else f"; residual {line['residual_mg_cm3']:.2f} mg/cm3"
    text = (
        f"Calibration: {named.get(line['method'], line['method'])}; density = ({line['slope']:.4f}{error}) HU "
        f"{line['intercept']:+.2f} mg/cm3 {line['material']}{residual}."
    )
    return f"<p>{escape(' '.join([text, *(note + '.' for note in line['notes'])]))}</p>"


def _labels(labels: Mapping[str, Any]) -> str:
    known = {name.replace("_", " "): value for name, value in labels.items() if value not in (None, "")}
    text = "; ".join(
        f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}" for name, value in known.items()
    )
    return f'<p class="note">{escape(text)}</p>' if text else ""


def _sides(entry: QualityEntry) -> str:
    assert entry.quality is not None
    parts = []
    for side in entry.quality["sides"]:
        rows = [
            [
                escape(region["name"].replace("_", " ")),
                number(region["bmd_g_cm2"], "g/cm2"),
                number(region["area_cm2"], "cm2"),
                number(region["vbmd_mg_cm3"], "mg/cm3"),
            ]
            for region in side["regions"]
        ]
        alt = f"The {side['name']} at its standard view with its regions painted; the one asked for is outlined."
        shown = figure(jpeg_file(entry.folder / side["picture"]), alt=alt, caption=side["name"])
        head = ["region", "areal BMD", "area", "volumetric BMD"]
        parts.append(f'<div class="side-by-side">{shown}{table(head, rows)}</div>')
    return "".join(parts) + _pairs(entry)


def _pairs(entry: QualityEntry) -> str:
    parts = []
    for name, path in entry.pairs.items():
        if path is None:
            parts.append(f'<p class="note">{escape(name)}: withheld, the radiograph carries burned-in annotation.</p>')
        else:
            alt = f"The radiograph ({name}), the registered bones and the region outlined on it, their areal density."
            parts.append(figure(jpeg_file(path), alt=alt, caption=f"{name}: the region at the radiograph's pose"))
    return f'<div class="side-by-side">{"".join(parts)}</div>'
