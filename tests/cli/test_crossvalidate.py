"""`hierbmd crossvalidate`: every fold trained, each patient read by a model that never saw it."""

from __future__ import annotations

import csv
import json

import pytest

from hierbmd.cli import crossvalidate
from hierbmd.cli.main import main
from hierbmd.errors import BadConfig
from hierbmd.io.dataset import read_dataset
from hierbmd.io.weights import read_card
from hierbmd.training.data import FoldChoice, PairData


def test_every_patient_is_read_once_out_of_fold_and_it_resumes(hip_dataset, tmp_path):
    out = tmp_path / "cv"
    flags = ["--data", str(hip_dataset), "--out", str(out), "--folds", "2", "--system", "single_stage", "--quick"]
    flags += ["--bootstrap-samples", "150"]
    assert main(["crossvalidate", *flags]) == 0
    found = json.loads((out / "metrics.json").read_text())
    pooled = read_dataset(hip_dataset).of_split("train", "val")
    assert (found["n_subjects"], found["n_images"], found["repeats"]) == (12, len(pooled), 1)
    with (out / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["pair_id"] for row in rows) == sorted(record.pair_id for record in pooled)
    for fold in range(2):
        held_out = PairData(str(hip_dataset), folds=FoldChoice(2, fold)).records("val")
        assert {r["subject"] for r in rows if r["fold"] == str(fold)} == {r.subject for r in held_out}
        card = read_card(out / "runs" / "repeat0" / f"fold{fold}" / "synthesize")
        assert card.training["train_patients"] == 12 - len({r.subject for r in held_out})
    page = (out / "report.html").read_text()
    assert "Out of fold" in page
    assert "QUICK RUN" in page
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()}
    assert main(["crossvalidate", *flags]) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("*") if p.is_file()} == before


def test_what_it_plans_and_what_it_refuses(tmp_path):
    options = crossvalidate.Options(data=tmp_path, out=tmp_path, folds=5, repeats=2)
    tasks = list(crossvalidate.planned(options, 50))
    assert len({task.out for task in tasks}) == 10
    assert [(task.folds["repeat"], task.folds["fold"]) for task in tasks[4:6]] == [(0, 4), (1, 0)]
    assert tasks[0].epochs == (16, 16, 8)
    assert tasks[0].patients == 40
    with pytest.raises(BadConfig, match="at least 2 folds"):
        crossvalidate.Options(data=tmp_path, out=tmp_path, folds=1)
    with pytest.raises(BadConfig, match="known: hierarchical"):
        crossvalidate.Options(data=tmp_path, out=tmp_path, overlays=("decompose=x",))


def test_evaluate_takes_the_runs_or_one_model(tmp_path, capsys):
    for wrong in ([], ["--model", "a", "--folds", "b,c"], ["--folds", "a,b", "--compare", "c"]):
        assert main(["evaluate", "--data", "d", "--out", str(tmp_path / "no"), *wrong]) == 1
    assert capsys.readouterr().err.count("hierbmd evaluate:") == 3
