"""`hierbmd evaluate` from arguments to files."""

from __future__ import annotations

import json

import pytest

from hierbmd.cli import evaluate
from hierbmd.cli.main import main


@pytest.fixture
def model(monkeypatch, blob_reader):
    """A model folder's name that loads as the reader of made-up blobs."""
    import hierbmd.predict

    monkeypatch.setattr(hierbmd.predict, "load_predictor", lambda folder: blob_reader(noise_g_cm2=0.03))
    return "some/model"


def test_leaves_metrics_predictions_and_a_report(model, hip_dataset, tmp_path, capsys):
    arguments = ["--model", model, "--data", str(hip_dataset), "--out", str(tmp_path), "--bootstrap-samples", "150"]
    assert evaluate.main(arguments) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n_subjects"] == 12
    assert metrics["bootstrap_samples"] == 150
    assert (tmp_path / "predictions.csv").is_file()
    assert (tmp_path / "report.html").is_file()
    out, err = capsys.readouterr()
    assert out.strip().endswith("report.html")
    assert err == ""


def test_another_split_and_reference(model, hip_dataset, tmp_path):
    arguments = ["--model", model, "--data", str(hip_dataset), "--out", str(tmp_path), "--split", "val"]
    assert evaluate.main([*arguments, "--reference", "nhanes3-male-total-hip", "--bootstrap-samples", "150"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["n_subjects"], metrics["split"]) == (2, "val")
    assert metrics["pearson_r"] is not None
    assert "fewer than 3" in metrics["agreement"]["model"]["pearson_r"]["reason"]


def test_refusals_are_one_line_and_status_one(model, tmp_path, capsys):
    assert main(["evaluate", "--model", model, "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err.strip()
    assert len(err.splitlines()) == 1
    assert "dataset.json" in err
    assert main(["evaluate", "--model", "m", "--data", "d", "--out", "o", "--bootstrap-samples", "3"]) != 0
