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


def test_sweeps_compared_models_and_the_curve_are_in_figures_table_and_report(
    hip_dataset, blob_reader, tmp_path, monkeypatch
):
    import dataclasses

    import hierbmd.predict

    def load(folder):
        good = str(folder) == "good"
        reader = blob_reader(noise_g_cm2=0.02 if good else 0.1)
        reader.card = dataclasses.replace(reader.card, training={"train_patients": 10 if good else 5})
        return reader

    monkeypatch.setattr(hierbmd.predict, "load_predictor", load)
    arguments = ["--model", "good", "--data", str(hip_dataset), "--out", str(tmp_path), "--bootstrap-samples", "150"]
    more = ["--robustness", "pose,noise", "--compare", "model=small,worse=bad", "--learning-curve"]
    assert evaluate.main([*arguments, *more]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["comparison"]["systems"]) == ["model", "worse", "mean_predictor"]
    assert metrics["comparison"]["paired"]["worse"]["rmse_g_cm2"]["high"] < 0
    points = [(p["system"], p["patients"]) for p in metrics["learning_curve"]]
    assert points == [("model", 5), ("model", 10), ("worse", 5)]
    assert {level["sweep"] for level in metrics["robustness"]} == {"pose", "noise"}
    assert metrics["robustness_lsc_g_cm2"] == metrics["precision"]["lsc_g_cm2"]
    figures = (tmp_path / "figures.csv").read_text()
    assert "agreement/model/pearson_r," in figures
    assert "robustness/pose 1/within_lsc," in figures
    assert "comparison/paired/worse/rmse_g_cm2," in figures
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 1 + 48 + 4 * 24
    page = (tmp_path / "report.html").read_text()
    assert all(title in page for title in ("Models compared", "Learning curve", "Robustness"))


def test_what_cannot_be_swept_or_compared_is_refused(model, hip_dataset, tmp_path, capsys):
    arguments = ["evaluate", "--model", model, "--data", str(hip_dataset), "--out", str(tmp_path)]
    assert main([*arguments, "--learning-curve"]) == 1
    assert "--compare" in capsys.readouterr().err
    assert main([*arguments, "--robustness", "uncalibrated", "--bootstrap-samples", "100"]) == 1
    assert "qc.csv" in capsys.readouterr().err
    assert main([*arguments, "--lsc-g-cm2", "30"]) == 1
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--robustness", "weather"])
    assert "uncalibrated" in capsys.readouterr().err
