"""`hierbmd review`: one page of what many `hierbmd register` runs left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hierbmd.cli._options import parse
from hierbmd.options import option


@dataclass(frozen=True, kw_only=True)
class Options:
    """One page of many registrations, worst first, to accept or reject each bone; `prepare` makes its own page."""

    folders: tuple[Path, ...] = option("folders that `hierbmd register` left", positional=True)
    out: Path = option("folder for review.html and review.csv, which says what is at which place")


def main(argv: list[str]) -> int:
    """Run `hierbmd review`; returns the exit status."""
    return run(parse("review", Options, argv))


def run(options: Options) -> int:
    """Read the folders and write the page."""
    from hierbmd.report.registrations import read_entries
    from hierbmd.report.review import write_review_page

    entries = [entry for folder in options.folders for entry in read_entries(Path(folder))]
    page = write_review_page(options.out, entries)
    print(f"{len(entries)} bones of {len(options.folders)} registrations: {page}")
    return 0
