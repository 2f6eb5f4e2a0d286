"""Progress on stderr, with a time estimate: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Report(Protocol):
    """What a command tells its progress: how many are done of how many, and a note, as of throughput."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


_LINE_EVERY_S = 15.0
_LOG = logging.getLogger(__name__)


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Show progress while the block runs; call what it yields with (done, total), and with a note if there is one."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    named = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    timed = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*named, *timed, console=console) as bars:
        task = bars.add_task(what, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            bars.update(task, completed=done, total=total, note=note)

        yield report


def _lines(what: str) -> Report:
    """A line in the log at the first step, at the last, and every 15 seconds between."""
    begun = time.monotonic()
    first: list[int] = []
    last_line = [-_LINE_EVERY_S]

    def report(done: int, total: int, note: str = "") -> None:
        now = time.monotonic() - begun
        first[:] = first or [done - 1]
        if done == total or now - last_line[0] >= _LINE_EVERY_S:
            last_line[0] = now
            left = now / max(done - first[0], 1) * (total - done)
            more = f", {note}" if note else ""
            _LOG.info("%s: %d of %d, %.0f s, about %.0f s left%s", what, done, total, now, left, more)

    return report
