"""The registration benchmark's own tools: what it calls a success, what it picks, and the page from its rows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore")


def _row(key, system, size, success_s, **more):
    key = [system, 128, size, key, [0.01, 1.0], "ncc"]
    return {"key": key, "system": system, "pixels": 128, "size": size, "success_s": success_s, "steps": 9, **more}


def test_success_is_from_when_the_error_stays_within_the_limit(bench):
    pytest.importorskip("torch")
    descent = bench("adam_loops").Descent([9.0, 1.0, 3.0, 1.5, 1.0], [0.0, 1.0, 2.0, 3.0, 4.0], [0.0] * 5)
    assert descent.success_steps(2.0) == 3
    assert descent.success_s(2.0) == 3.0
    assert descent.success_s(10.0) == 0.0
    assert descent.success_s(0.5) is None


def test_a_loop_is_given_up_after_its_steps(bench):
    loops = bench("adam_loops")
    patience = loops.Patience(2.0, hold=3, steps=7, most_s=60.0)
    followed = loops.follow(itertools.repeat(np.eye(4)), 9.0, lambda pose: 5.0, patience)
    assert followed.errors_mm == [9.0, *[5.0] * 7]
    errors = iter([5.0, 1.0, 3.0, 1.0, 1.5, 1.0, 1.0, 1.0])
    arrived = loops.follow(itertools.repeat(np.eye(4)), 9.0, lambda pose: next(errors), patience)
    assert arrived.errors_mm == [9.0, 5.0, 1.0, 3.0, 1.0, 1.5, 1.0]
    assert arrived.success_s(2.0) == arrived.cpu_s[4]


def test_the_best_rate_has_most_successes_then_least_time(bench):
    starts = bench("starts")

    def row(rate, success_s):
        return {"key": ["our projector, Adam", 128, 5.0, 100, [rate, 1.0], "ncc"], "success_s": success_s}

    rows = [row(0.1, 1.0), row(0.1, None), row(0.2, 9.0), row(0.2, 9.0), row(0.3, 5.0), row(0.3, 6.0)]
    assert starts.best_of(rows) == ((0.3, 1.0), "ncc")


def test_starts_are_as_far_away_as_they_say_and_the_same_for_all(bench):
    starts = bench("starts")
    centre = np.array([10.0, -20.0, 30.0])
    truth = np.eye(4)
    truth[2, 3] = 900.0
    one = starts.start_of(truth, centre, 10.0, 3)
    assert np.array_equal(one, starts.start_of(truth, centre, 10.0, 3))
    shift = (one @ np.r_[centre, 1.0] - truth @ np.r_[centre, 1.0])[:3]
    assert np.hypot(*shift[:2]) == pytest.approx(20.0)
    assert abs(shift[2]) == pytest.approx(40.0)
    assert np.degrees(np.arccos((np.trace(one[:3, :3]) - 1) / 2)) == pytest.approx(10.0)


def test_the_plan_takes_the_systems_in_turn(bench):
    starts = bench("starts")
    cases = starts.plan((0.01, 1.0), "ncc")
    assert len(cases) == sum(count for counts in starts.PLAN.values() for count in counts.values())
    first = cases[: sum(len(counts) for counts in starts.PLAN.values())]
    assert {case.system for case in first} == set(starts.PLAN)
    assert {case.number for case in first} == {0}


def test_the_page_counts_what_the_rows_say(bench, tmp_path):
    machine = bench("machine").machine(1)

    def write(name, rows):
        part = {"command": f"python benchmarks/registration.py --part {name}", "machine": machine, "rows": rows}
        (tmp_path / f"{name}.json").write_text(json.dumps(part), encoding="utf-8")

    bone = {"bone": "hip_left", "depth_mm": 1.0, "stated": [1.0] * 6}
    bones = [
        bone | {"in_plane_mm": 0.4, "outcome": "converged", "error": [0.5] * 6},
        bone | {"in_plane_mm": 7.0, "outcome": "converged", "error": [3.0] * 6},
        bone | {"in_plane_mm": 9.0, "outcome": "flat", "error": [3.0] * 6},
    ]
    write("acceptance", [{"key": n, "cpu_s": 1.0, "bones": [one]} for n, one in enumerate(bones)])
    ours = [_row(n, "hierbmd, one start", 5.0, 0.1, outcome="converged") for n in range(2)]
    loop = _row(0, "our projector, Adam", 5.0, 3.0, success_steps=40, version="0")
    write("starts", [*ours, loop, _row(0, "nanodrr, Adam", 5.0, 30.0, success_steps=40, version="9.9")])
    steps = {"our projector, Adam": 0.1, "nanodrr, Adam": 0.5}
    write("steps", [{"system": name, "pixels": 128, "step_s": s, "version": "9.9"} for name, s in steps.items()])
    bench("registration_page").write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "benchmarks" / "registration.md").read_text(encoding="utf-8")
    assert "| hip_left | 7.00 | 9.00 | 1.00 | 1 of 3 (33 %) | 2 of 3 (67 %) | 1 |" in page
    assert "pose 1, hip_left: 7.0 mm in plane, converged" in page
    assert "| 128 | 5 | nanodrr, Adam (9.9) | 1 of 1 (100 %) | 30.00 | 300 | 9 |" in page
    assert "| 128 | nanodrr, Adam (9.9) | 0.500 | 5 | 40 | 20 | 200 |" in page
    assert "| hip_left | 2 | 50 % |" in page
    assert (tmp_path / "docs" / "images" / "registration_capture.png").stat().st_size > 1000
