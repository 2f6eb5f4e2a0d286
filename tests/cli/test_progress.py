"""Progress in a log: a line at the start, at the end and every 15 seconds, with a time estimate."""

from __future__ import annotations

import logging

import pytest

from hierbmd.cli import _progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_with_the_time_left(clock, caplog):
    caplog.set_level(logging.INFO)
    with _progress.progress("patients") as report:
        for done in range(1, 11):
            clock[0] += 4.0
            report(done, 10)
    assert [record.message for record in caplog.records] == [
        "patients: 1 of 10, 4 s, about 36 s left",
        "patients: 5 of 10, 20 s, about 20 s left",
        "patients: 9 of 10, 36 s, about 4 s left",
        "patients: 10 of 10, 40 s, about 0 s left",
    ]


def test_what_was_done_before_does_not_shorten_the_estimate(clock, caplog):
    caplog.set_level(logging.INFO)
    with _progress.progress("patients") as report:
        clock[0] += 10.0
        report(91, 100)
    assert caplog.records[0].message == "patients: 91 of 100, 10 s, about 90 s left"
