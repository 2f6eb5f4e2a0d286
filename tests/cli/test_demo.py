"""`hierbmd demo`, at its smallest: every step real, and nothing done twice."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from hierbmd.cli import demo
from hierbmd.cli._chain import TRUTH_SOURCE
from hierbmd.cli.main import main


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick demo's folder and what it printed on the log."""
    out = tmp_path_factory.mktemp("demo")
    demo.demo(demo.Options(out=out, subjects=6, workers=1, quick=True))
    return out


def test_leaves_a_report_and_the_figures(quick):
    metrics = json.loads((quick / "metrics.json").read_text())
    assert {"pearson_r", "rmse_g_cm2", "mean_predictor_rmse_g_cm2", "n_subjects", "seed"} <= set(metrics)
    assert metrics["simulated"] is True
    assert metrics["quick"] is True
    assert metrics["bmd_sources"] == [TRUTH_SOURCE]
    assert "Research use only" in metrics["research_use_only"]
    assert set(metrics["seconds"]) == set(demo.STEPS)
    assert "QUICK RUN" in (quick / "report.html").read_text()


def test_the_reference_is_the_voxel_truth(quick):
    truth = json.loads((quick / "cohort" / "truth.json").read_text())
    sides = {subject["subject"]: subject["sides"] for subject in truth["subjects"]}
    lines = (quick / "predictions.csv").read_text().splitlines()
    names = lines[0].split(",")
    for line in lines[1:]:
        row = dict(zip(names, line.split(","), strict=False))
        expected = sides[row["subject"]][row["side"]]["total_hip_bmd_g_cm2"]
        assert float(row["bmd_reference_g_cm2"]) == pytest.approx(expected)


def test_called_again_it_does_nothing_twice(quick):
    def made():
        parts = ("cohort/subjects", "dataset/pairs", "runs")
        files = [path for part in parts for path in (quick / part).rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in files}

    before, metrics = made(), json.loads((quick / "metrics.json").read_text())
    demo.demo(demo.Options(out=quick, subjects=6, workers=1, quick=True))
    assert made() == before
    again = json.loads((quick / "metrics.json").read_text())
    assert {**again, "seconds": 0} == {**metrics, "seconds": 0}


def test_its_model_reads_a_radiograph(quick, monkeypatch, capsys):
    examples = Path(__file__).resolve().parents[2] / "examples"
    radiograph = next((quick / "cohort" / "subjects").glob("*/radiograph_00.dcm"))
    monkeypatch.setattr(sys, "argv", ["predict.py", str(quick / "runs" / "regress"), str(radiograph)])
    runpy.run_path(str(examples / "predict.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "left total_hip: " in out
    assert "right total_hip: " in out


def test_another_demo_in_the_same_folder_is_refused(quick, capsys):
    assert main(["demo", "--out", str(quick), "--subjects", "6", "--seed", "1", "--quick", "--workers", "1"]) == 1
    assert main(["demo", "--out", str(quick), "--subjects", "2"]) == 1
    assert "at least 6 subjects" in capsys.readouterr().err
