"""`hierbmd study`: what it plans, and the whole of it at its smallest."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from hierbmd.cli import study
from hierbmd.cli._systems import SYSTEMS, epochs_of, readings
from hierbmd.cli.main import main
from hierbmd.data.card import Readout
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import BadConfig, SplitLeak
from hierbmd.evaluation.study import COMPARED
from hierbmd.evaluation.transfer import elsewhere
from hierbmd.io.dataset import read_dataset, write_dataset, write_pair
from hierbmd.io.image import write_labels, write_volume


def quick(out, data, **others):
    return study.Options(
        out=out,
        data=data,
        patients=4,
        sizes=(5,),
        epochs=(1, 1, 1),
        workers=1,
        bootstrap_samples=150,
        quick=True,
        **others,
    )


@pytest.fixture(scope="session")
def foreign_dataset(hip_dataset, tmp_path_factory):
    """Two images each of four patients whom nobody has learnt from, brighter by another gain."""
    folder, records = tmp_path_factory.mktemp("foreign"), []
    here = read_dataset(hip_dataset)
    four = sorted({record.subject for record in here.of_split("test")})[:4]
    for record in [record for record in here.of_split("test") if record.subject in four]:
        pair = here.load(record)
        radiograph = pair.radiograph * np.float32(1.3)
        records.append(
            replace(
                record,
                pair_id=f"foreign-{record.pair_id}",
                subject=f"foreign-{record.subject}",
                split="train",
                radiograph_sha256=pixels_sha256(radiograph),
            )
        )
        write_pair(folder, replace(pair, record=records[-1], radiograph=radiograph))
    write_dataset(folder, here.card, records)
    return folder


def test_every_system_makes_as_many_steps():
    for system in SYSTEMS:
        assert sum(epochs_of(system, (16, 16, 8))) == 40
        assert sum(epochs_of(system, (16, 16, 8), factor=2.0)) == 80
    assert tuple(SYSTEMS) == COMPARED


def test_test_images_are_read_again_when_a_models_line_changes(hip_dataset, blob_reader, tmp_path, monkeypatch):
    """The weights are the same: only the line from raw to true BMD is another."""
    dataset = read_dataset(hip_dataset)

    def read_with(slope, offset_g_cm2):
        reader = blob_reader(offset_g_cm2=offset_g_cm2)
        reader.card = dataclasses.replace(reader.card, readout=Readout(slope, 0.0))
        monkeypatch.setattr("hierbmd.predict.load_predictor", lambda folder: reader)
        return readings(tmp_path, dataset, dataset.of_split("test"), kept=tmp_path / "readings.json")

    first = read_with(1.0, 0.0)
    assert read_with(1.0, 0.2) == first
    again = read_with(1.1, 0.2)
    assert again == {name: pytest.approx(value + 0.2, abs=1e-6) for name, value in first.items()}


def test_samples_are_nested_and_keep_the_test_patients(hip_dataset, tmp_path):
    options = study.Options(out=tmp_path, sizes=(8, 4), epochs=(4, 4, 2))
    trainings = list(study.planned(read_dataset(hip_dataset), options))
    assert [(t.system, t.patients) for t in trainings] == [(s, n) for n in (10, 4, 8) for s in SYSTEMS]
    assert sum(trainings[3].epochs) > 10
    small, large = (read_dataset(tmp_path / "samples" / f"{n:04d}") for n in (4, 8))
    of = [{r.subject for r in data.of_split("train")} for data in (small, large)]
    assert [len(one) for one in of] == [4, 8]
    assert of[0] < of[1]
    whole = read_dataset(hip_dataset)
    assert len(small.of_split("test")) == len(whole.of_split("test"))
    assert (small.load(small.records[0]).radiograph == whole.load(whole.records[0]).radiograph).all()


@pytest.mark.usefixtures("constant")
def test_leaves_the_contract_and_resumes(hip_dataset, foreign_dataset, tmp_path):
    options = quick(tmp_path / "study", hip_dataset, transfer=(foreign_dataset,))
    study.study(options)
    metrics = json.loads((options.out / "metrics.json").read_text())
    assert (metrics["n_train"], metrics["n_test"], metrics["seed"]) == (10, 12, 0)
    for name in (*SYSTEMS, "mean_predictor"):
        assert {
            f"{f}{end}" for f in ("pearson_r", "rmse_g_cm2", "auc_osteoporosis") for end in ("", "_low", "_high")
        } <= (metrics["systems"][name].keys())
    mean = metrics["systems"]["mean_predictor"]
    assert mean["pearson_r"] is None
    assert "constant" in mean["pearson_r_reason"]
    assert mean["auc_osteoporosis"] == 0.5
    assert {"pose_rms_cv_percent", "pose_rms_sd_g_cm2", "lsc_percent"} <= metrics.keys()
    assert metrics["pose_degrees_of_freedom"] == 24
    assert set(metrics["jpeg_within_lsc"]) == {"90", "75", "60", "50", "40", "30"}
    assert {(p["system"], p["patients"]) for p in metrics["learning_curve"]} == {
        (s, n) for s in SYSTEMS for n in (5, 10)
    }
    with (options.out / "study.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    own = {"systems", "paired", "learning curve", "pose", "compression"}
    assert {row["part"] for row in rows} == own | {
        f"transfer: {part}" for part in ("systems", "paired", "pose", "density image")
    }
    assert "QUICK RUN" in (options.out / "report.html").read_text()
    _require_transfer(metrics, foreign_dataset, options.out)
    before = {p: p.stat().st_mtime_ns for p in (options.out / "runs").rglob("*") if p.is_file()}
    study.study(options)
    assert {p: p.stat().st_mtime_ns for p in (options.out / "runs").rglob("*") if p.is_file()} == before
    again = json.loads((options.out / "metrics.json").read_text())
    assert {**again, "seconds": 0} == {**metrics, "seconds": 0}
    # A baseline that is added trains itself alone, at every size, and stands in every table.
    study.study(dataclasses.replace(options, baselines=("constant",)))
    assert {p: p.stat().st_mtime_ns for p in before} == before
    added = json.loads((options.out / "metrics.json").read_text())
    assert added["systems"].keys() - metrics["systems"].keys() == {"constant"}
    assert added["systems"]["hierarchical"] == metrics["systems"]["hierarchical"]
    assert added["systems"]["constant"]["rmse_g_cm2"] > 0
    assert added["paired"]["constant"]["rmse_g_cm2"]["high"] is not None
    assert {p["patients"] for p in added["learning_curve"] if p["system"] == "constant"} == {5, 10}
    assert "constant" in (options.out / "report.html").read_text()


def _require_transfer(metrics, foreign_dataset, out):
    """Every system read every foreign image; the mean predictor says what the study's patients had."""
    found, records = metrics["transfer"], read_dataset(foreign_dataset).records
    assert (found["n_subjects"], found["n_images"]) == (4, len(records))
    assert found["systems"].keys() == metrics["systems"].keys()
    error = np.array([r.bmd_g_cm2 for r in records]) - metrics["mean_predictor_g_cm2"]
    assert found["systems"]["mean_predictor"]["rmse_g_cm2"] == pytest.approx(np.sqrt(np.mean(error**2)))
    read = json.loads((out / "transfer" / "hierarchical.json").read_text())["bmd_g_cm2"]
    error = np.array([r.bmd_g_cm2 - read[r.pair_id] for r in records])
    assert found["systems"]["hierarchical"]["rmse_g_cm2"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert found["pose_degrees_of_freedom"] == len(records) - 8
    assert "patients that are not of the study" in (out / "report.html").read_text()
    assert (out / "transfer" / "evaluation" / "report.html").is_file()


def test_a_patient_learnt_from_is_nobody_from_elsewhere(hip_dataset):
    learnt = read_dataset(hip_dataset)
    with pytest.raises(SplitLeak, match=r"learnt from.*to be read"):
        elsewhere(learnt, learnt)


@pytest.mark.slow
def test_patients_of_a_real_ct_are_made_prepared_and_read(hip_dataset, coarse_patient, tmp_path):
    ct, labels = tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"
    write_volume(ct, coarse_patient.volume)
    write_labels(labels, coarse_patient.labels)
    options = quick(tmp_path / "study", None, transfer=(ct, labels), transfer_patients=4, validation=4, test=4, poses=1)
    study.study(options)
    found = json.loads((options.out / "metrics.json").read_text())["transfer"]
    assert found["real_cts"] == 1
    assert 0 < found["n_subjects"] <= 4
    assert found["bmd_sources"] == ["simulation truth"]
    assert "in many states" in (options.out / "report.html").read_text()


def test_what_cannot_be_studied_is_refused(tmp_path, capsys):
    assert main(["study", "--out", str(tmp_path), "--patients", "2"]) == 1
    assert "at least 4 patients" in capsys.readouterr().err
    with pytest.raises(BadConfig, match=r"known: hierarchical\.decompose"):
        study.Options(out=tmp_path, overlays=("hierarchical.regres=x",))
    with pytest.raises(BadConfig, match="no such baseline: nobody"):
        study.Options(out=tmp_path, baselines=("nobody",))
    with pytest.raises(BadConfig, match="a CT without its labels"):
        study.Options(out=tmp_path, transfer=(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
    with pytest.raises(BadConfig, match="three stages"):
        study.Options(out=tmp_path, epochs=(1, 2))
