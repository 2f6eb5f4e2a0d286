"""Progress on stderr, with a time estimate: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]

_LINE_EVERY_S = 15.0
_LOG = logging.getLogger(__name__)


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Show progress while the block runs; call what it yields with (done, total)."""
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
    timed = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*named, *timed, console=console) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _lines(what: str) -> Report:
    """A line in the log at the first step, at the last, and every 15 seconds between."""
    begun = time.monotonic()
    first: list[int] = []
    last_line = [-_LINE_EVERY_S]

    def report(done: int, total: int) -> None:
        now = time.monotonic() - begun
        first[:] = first or [done - 1]
        if done == total or now - last_line[0] >= _LINE_EVERY_S:
            last_line[0] = now
            left = now / max(done - first[0], 1) * (total - done)
            _LOG.info("%s: %d of %d, %.0f s, about %.0f s left", what, done, total, now, left)

    return report
