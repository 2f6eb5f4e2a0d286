"""The registration benchmark's own tools: what it calls a success, what it picks, and the page from its rows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore")


def _row(key, system, size, success_s, image="linear", **more):
    key = [system, 128, size, key, image, [0.01, 1.0], "ncc"]
    row = {"key": key, "system": system, "pixels": 128, "size": size, "image": image, "success_s": success_s}
    return {**row, "cpu_s": 2.0, "steps": 9, **more}


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


def test_the_best_rate_of_an_image_has_most_successes_then_fewest_steps(bench):
    def row(rate, steps, image="displayed"):
        return {
            "key": ["our projector, Adam", 128, 5.0, 100, image, [rate, 1.0], "ncc"],
            "success_steps": steps,
        }

    rows = [row(0.1, 1), row(0.1, None), row(0.2, 9), row(0.2, 9), row(0.3, 5), row(0.3, 6)]
    rows += [row(0.3, None, "linear"), row(0.1, 2, "linear")]
    best = bench("start_plan").best_of(rows)
    assert best == {"displayed": ((0.3, 1.0), "ncc"), "linear": ((0.1, 1.0), "ncc")}


def test_a_search_arrives_when_all_that_it_asks_for_is_near(bench):
    def pose(error_mm):
        return error_mm * np.eye(4)

    recorder = bench("starts").Recorder(projector=None)
    recorder.asked = [(pose(9.0), 0.1), (pose(1.0), 0.2), (pose(5.0), 0.3), (pose(1.5), 0.4), (pose(1.2), 0.5)]

    def error_of(at):
        return at[0, 0]

    assert recorder.arrival_s(error_of, 0.9) == 0.4
    assert recorder.arrival_s(error_of, 0.9, [pose(9.0), pose(1.0), pose(1.2)]) == 0.2
    recorder.asked.append((pose(8.0), 0.6))
    assert recorder.arrival_s(error_of, 0.9) == 0.9, "a rival was followed last"


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
    plans = bench("start_plan")
    best = {"displayed": ((0.01, 1.0), "ncc"), "linear": ((0.02, 3.0), "gradient ncc")}
    cases = plans.plan(best)
    counts = [count for systems in plans.PLAN.values() for sizes in systems.values() for count in sizes.values()]
    assert len(cases) == sum(counts)
    first = cases[: len(counts)]
    assert {(case.image, case.system) for case in first} == {
        (i, s) for i, systems in plans.PLAN.items() for s in systems
    }
    assert {case.number for case in first} == {0}
    assert all((case.rates, case.loss) == best[case.image] for case in cases)
    loops = [case for case in cases if case.system.endswith("Adam")]
    assert [plans.Case.of(json.loads(json.dumps(case.key))) for case in loops] == loops


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
    shown = _row(0, "nanodrr, Adam", 5.0, None, "displayed", version="9.9")
    write("starts", [*ours, loop, _row(0, "nanodrr, Adam", 5.0, 30.0, success_steps=40, version="9.9"), shown])
    steps = {"our projector, Adam": 0.1, "nanodrr, Adam": 0.5}
    write(
        "steps",
        [{"system": name, "pixels": 128, "samples": 150, "step_s": s, "version": "9.9"} for name, s in steps.items()],
    )
    bench("registration_page").write_page(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "benchmarks" / "registration.md").read_text(encoding="utf-8")
    assert "| hip_left | 7.00 | 9.00 | 1.00 | 1 of 3 (33 %) | 2 of 3 (67 %) | 1 |" in page
    assert "pose 1, hip_left: 7.0 mm in plane, converged" in page
    assert "| linear | 128 | 5 | nanodrr, Adam (9.9) | 1 of 1 (100 %) | 30.00 | 300 | 2.00 | 9 |" in page
    assert "| displayed | nanodrr, Adam | 0 of 1 |" in page
    assert "2 of 2 were called converged, 0 of them wrongly" in page
    assert "| 128 | nanodrr, Adam (9.9) | 150 | 0.500 | 5 |" in page
    assert "| hip_left | 2 | 50 % |" in page
    assert "Of a Gaussian's 1.96 standard errors\n50.0 % hold the truth" in page
    assert (tmp_path / "docs" / "images" / "registration_capture.png").stat().st_size > 1000
