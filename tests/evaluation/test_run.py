"""A whole evaluation with a reader of known error."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hierbmd.errors import BadConfig, BadManifest, SplitLeak, WrongWeights
from hierbmd.evaluation.files import density_file, write_evaluation
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.run import evaluate
from hierbmd.io.dataset import read_dataset
from hierbmd.report.page import write_report

OPTIONS = EvaluationOptions(bootstrap_samples=200)


def test_a_perfect_reader_beats_the_mean_predictor(hip_dataset, blob_reader):
    dataset = read_dataset(hip_dataset)
    metrics = evaluate(blob_reader(), dataset, OPTIONS).metrics
    test = [record.bmd_g_cm2 for record in dataset.of_split("test")]
    train_mean = np.mean([record.bmd_g_cm2 for record in dataset.of_split("train")])
    assert metrics["pearson_r"] == pytest.approx(1.0)
    assert metrics["rmse_g_cm2"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["mean_predictor_g_cm2"] == pytest.approx(train_mean)
    assert metrics["mean_predictor_rmse_g_cm2"] == pytest.approx(np.sqrt(np.mean((np.array(test) - train_mean) ** 2)))
    assert (metrics["n_subjects"], metrics["n_images"], metrics["n_train_subjects"]) == (12, 48, 10)
    for name in ("pearson_r", "icc_2_1", "see_g_cm2", "calibration_slope"):
        undefined = metrics["agreement"]["mean_predictor"][name]
        assert undefined["value"] is None
        assert undefined["reason"] == "not defined: predictions are constant"
    assert metrics["interval_coverage"]["value"] == 1.0
    assert metrics["density_image"]["density_ssim"]["value"] == pytest.approx(1.0)
    assert metrics["simulated"] is True
    assert "Research use only" in metrics["research_use_only"]


def test_a_biased_reader_shows_where_it_is_wrong(hip_dataset, blob_reader):
    model = evaluate(blob_reader(gain=0.5, offset_g_cm2=0.6), read_dataset(hip_dataset), OPTIONS).metrics
    figures = model["agreement"]["model"]
    assert figures["pearson_r"]["value"] == pytest.approx(1.0)
    assert figures["calibration_slope"]["value"] == pytest.approx(2.0, rel=1e-3)
    assert figures["bias_g_cm2"]["value"] > 0.1
    assert model["interval_coverage"]["value"] < 0.5


def test_the_screening_threshold_comes_from_training_patients_alone(hip_dataset, blob_reader):
    # The reader is off by +0.3 everywhere: a threshold from the clinical limit would miss everyone; one learnt on the
    # training patients moves along.
    dataset = read_dataset(hip_dataset)
    right = evaluate(blob_reader(), dataset, OPTIONS).metrics["screening"]["osteoporosis"]
    shifted = evaluate(blob_reader(offset_g_cm2=0.3), dataset, OPTIONS).metrics["screening"]["osteoporosis"]
    assert shifted["threshold_g_cm2"] == pytest.approx(right["threshold_g_cm2"] + 0.3, abs=1e-4)
    assert shifted["sensitivity"] == right["sensitivity"]
    training = [record for record in dataset.records if record.split == "train"]
    no_train_disease = dataclasses.replace(
        dataset, records=tuple(r for r in dataset.records if r not in training or r.bmd_g_cm2 > 0.637)
    )
    blind = evaluate(blob_reader(), no_train_disease, OPTIONS).metrics["screening"]["osteoporosis"]
    assert blind["threshold_g_cm2"] is None
    assert "training" in blind["sensitivity"]["reason"]


def test_precision_is_over_poses_of_one_hip(hip_dataset, blob_reader):
    figures = evaluate(blob_reader(noise_g_cm2=0.02), read_dataset(hip_dataset), OPTIONS).metrics["precision"]
    assert (figures["groups"], figures["degrees_of_freedom"]) == (24, 24)
    low, high = figures["rms_sd_g_cm2"]["low"], figures["rms_sd_g_cm2"]["high"]
    assert low < 0.02 < high


def test_the_other_intervals_and_rows_hold_what_the_table_says(hip_dataset, blob_reader):
    found = evaluate(blob_reader(noise_g_cm2=0.03), read_dataset(hip_dataset), OPTIONS)
    assert len(found.rows) == 48
    errors = [row["bmd_predicted_g_cm2"] - row["bmd_reference_g_cm2"] for row in found.rows]
    assert found.metrics["rmse_g_cm2"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    row = found.rows[0]
    assert row["t_score_predicted"] == pytest.approx((row["bmd_predicted_g_cm2"] - 0.942) / 0.122)
    assert len(found.shown) == 4


def test_a_region_without_a_reference_has_figures_and_no_t_scores(hip_dataset, blob_reader, tmp_path):
    dataset = read_dataset(hip_dataset)
    dataset = dataclasses.replace(dataset, card=dataclasses.replace(dataset.card, region="trochanter"))
    reader = blob_reader()
    reader.card = dataclasses.replace(reader.card, region="trochanter")
    found = evaluate(reader, dataset, OPTIONS)
    assert found.metrics["pearson_r"] == pytest.approx(1.0)
    assert (found.metrics["reference"], found.metrics["reference_population"]) == (None, None)
    for figures in found.metrics["screening"].values():
        assert figures["auc"]["value"] is None
        assert "no young-adult reference" in figures["auc"]["reason"]
    for row in found.rows:
        assert row["t_score_reference"] is row["class_predicted"] is None
        assert "no young-adult reference" in row["t_score_reason"]
    write_evaluation(tmp_path, found, model=reader.card)
    write_report(tmp_path, hip_dataset)
    page = (tmp_path / "report.html").read_text()
    assert "no young-adult reference" in page


def test_patients_below_fifty_have_no_t_score_and_are_not_screened(hip_dataset, blob_reader):
    """Half of the test patients are 49; every age is known."""
    dataset = read_dataset(hip_dataset)
    young = {record.subject for record in dataset.of_split("test")[:24]}
    aged = [dataclasses.replace(r, age=49.0 if r.subject in young else 50.0) for r in dataset.records]
    found = evaluate(blob_reader(), dataclasses.replace(dataset, records=tuple(aged)), OPTIONS)
    for row in found.rows:
        missing = row["subject"] in young
        assert (row["t_score_reference"] is None) == (row["class_reference"] is None) == missing
        assert (row["t_score_predicted"] is None) == (row["class_predicted"] is None) == missing
        assert ("the patient is 49" in row["t_score_reason"]) == missing
    assert found.metrics["screening"]["osteoporosis"]["n_patients"] == 12 - len(young)
    assert found.metrics["n_subjects"] == 12


def test_files_are_whole_and_hold_no_nan(hip_dataset, blob_reader, tmp_path):
    reader = blob_reader(noise_g_cm2=0.03)
    found = evaluate(reader, read_dataset(hip_dataset), OPTIONS)
    stale = density_file(tmp_path, 999)
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    write_evaluation(tmp_path, found, model=reader.card, extra={"seconds": {"train": 1.0}})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["versions"]["hierbmd"]
    assert metrics["model_sha256"] == reader.card.sha256
    assert metrics["seconds"] == {"train": 1.0}
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 49
    assert len(list((tmp_path / "density").iterdir())) == 4
    assert not stale.exists()


def test_what_cannot_be_evaluated_is_refused(hip_dataset, blob_reader):
    dataset = read_dataset(hip_dataset)
    only_train = dataclasses.replace(dataset, records=dataset.of_split("train"))
    with pytest.raises(BadManifest, match="no test patients"):
        evaluate(blob_reader(), only_train, OPTIONS)
    leaking = dataclasses.replace(
        dataset, records=(*dataset.records, dataclasses.replace(dataset.of_split("train")[0], split="test"))
    )
    with pytest.raises(SplitLeak):
        evaluate(blob_reader(), leaking, OPTIONS)
    neck = dataclasses.replace(dataset, card=dataclasses.replace(dataset.card, region="femoral_neck"))
    with pytest.raises(WrongWeights, match="region total_hip; wanted region femoral_neck"):
        evaluate(blob_reader(), neck, OPTIONS)
    with pytest.raises(BadConfig, match="of the femoral_neck, the BMD of the total_hip"):
        evaluate(blob_reader(), dataset, EvaluationOptions(reference="nhanes3-female-femoral-neck"))
    with pytest.raises(BadConfig, match="bootstrap"):
        EvaluationOptions(bootstrap_samples=0)
