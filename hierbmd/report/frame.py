"""The frame that every page of results stands in: title, warnings, titled sections, and how it all came about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from hierbmd.io.atomic import atomic_path
from hierbmd.report.words import table

SIMULATED = "SIMULATED: virtual patients and radiographs. Says nothing about clinical accuracy."
QUICK = "QUICK RUN: the smallest run of every step. Its figures mean nothing."


def write_page(path: Path, *, title: str, lead: str, metrics: Mapping[str, Any], sections: Mapping[str, str]) -> None:
    """Write a page with everything in it: no script, no other file, no network.

    `title`, `lead` and the sections' headings are text, their contents HTML; the warnings are what `metrics` says.
    """
    content = "\n".join(_section(heading, html) for heading, html in sections.items())
    page = Template(resource("frame.html")).substitute(
        title=escape(title),
        lead=escape(lead),
        banners=banners(_warnings(metrics)),
        sections=content,
        footer=escape(metrics["research_use_only"]),
        style=resource("style.css"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def resource(name: str) -> str:
    """A file that comes with the reports."""
    return resources.files("hierbmd.report").joinpath(name).read_text(encoding="utf-8")


def provenance(metrics: Mapping[str, Any]) -> str:
    """How figures came about, as a table: model, seed, versions and seconds, as far as they are known."""
    facts = {
        "model": metrics.get("model"),
        "data simulated": "yes" if metrics["simulated"] else "no",
        "seed": metrics["seed"],
        **{f"version of {name}": version for name, version in metrics.get("versions", {}).items()},
        **{f"seconds for {name}": f"{seconds:.0f}" for name, seconds in metrics.get("seconds", {}).items()},
    }
    return table(["fact", "value"], [[escape(str(k)), escape(str(v))] for k, v in facts.items() if v is not None])


def _section(heading: str, html: str) -> str:
    name = re.sub(r"\W+", "-", heading.lower()).strip("-")
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>\n{html}\n</section>'


def banners(texts: Sequence[str]) -> str:
    """Warnings at the top of a page."""
    return "".join(f'<p class="banner" role="note">{escape(text)}</p>' for text in texts)


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    said = [QUICK] if metrics.get("quick") else []
    said += [SIMULATED] if metrics["simulated"] else []
    return [*said, metrics["research_use_only"]]
