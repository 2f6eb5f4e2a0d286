"""`hierbmd simulate` from the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from hierbmd.calibration.source import calibration_from
from hierbmd.cli.main import main
from hierbmd.data.manifest import PATH_COLUMNS
from hierbmd.io.ct import read_volume
from hierbmd.io.dataset import read_dataset
from hierbmd.io.manifest import read_manifest

SMALL = ["--subjects", "1", "--seed", "4", "--spacing-mm", "4.5", "--size", "48x48", "--pixel-mm", "8.5"]


def test_it_leaves_what_the_contract_says_and_resumes(tmp_path, capsys):
    out = tmp_path / "cohort"
    assert main(["simulate", "--out", str(out), *SMALL]) == 0
    assert (out / "manifest.csv").exists()
    truth = json.loads((out / "truth.json").read_text())
    assert truth["simulated"] is True
    assert truth["seed"] == 4
    folder = out / "subjects" / truth["subjects"][0]["subject"]
    names = {"ct.nii.gz", "labels.nii.gz", "density.nii.gz", "calibration.json", "radiograph_00.dcm", "truth.json"}
    assert {path.name for path in folder.iterdir()} == names
    capsys.readouterr()
    assert main(["simulate", "--out", str(out), *SMALL]) == 0
    assert "1 were there already" in capsys.readouterr().err


def test_a_cohort_of_qct_scans_names_its_phantom(tmp_path):
    """DICOM series with the rods of their serial; the line is measured from them and is the truth's."""
    out = tmp_path / "cohort"
    flags = ["--scan", "qct", "--phantom", "QRM-BDC-3", "--scan-serial", "4", "--ct-format", "dicom"]
    flags += ["--scan-pixel-mm", "1.6", "--scan-interval-mm", "15", "--scan-thickness-mm", "8", "--scan-noise-hu", "0"]
    assert main(["simulate", "--out", str(out), *SMALL, *flags]) == 0
    (row,) = read_manifest(out / "manifest.csv").rows
    assert row.calibration.name == "phantom.json"
    truth = json.loads((row.ct.parent / "truth.json").read_text())
    assert truth["scan"]["options"]["noise_hu"] == 0.0
    assert truth["scan"]["options"]["cupping_hu"] == 6.0
    found = calibration_from(row.calibration, read_volume(row.ct))
    assert found.slope == pytest.approx(truth["calibration_line"]["slope"], rel=0.01)
    before = (row.ct.parent / "truth.json").stat().st_mtime_ns
    assert main(["simulate", "--out", str(out), *SMALL, *flags]) == 0
    assert (row.ct.parent / "truth.json").stat().st_mtime_ns == before


def test_refusals_are_one_line_and_status_1(tmp_path, capsys):
    for wrong in (["--sdd-mm", "1.15"], ["--from-ct", "x.nii.gz"], ["--kvp", "500"], ["--spacing-mm", "0.002"]):
        assert main(["simulate", "--out", str(tmp_path / "no"), *SMALL, *wrong]) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hierbmd simulate:")]
        assert len(lines) == 1


def test_an_output_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(["simulate", "--out", str(tmp_path / "taken"), *SMALL]) == 1
    assert "cannot write" in capsys.readouterr().err


FROM_CT = ["--subjects", "2", "--seed", "4", "--size", "96x96", "--pixel-mm", "6", "--step-mm", "3"]


@pytest.mark.slow
def test_a_cohort_on_one_ct_goes_through_prepare_and_evaluate(tmp_path, monkeypatch, blob_reader):
    """Beside virtual patients to learn from: pairs of both hips, for testing alone; their density is the truth's."""
    import hierbmd.predict

    learn, states = tmp_path / "learn", tmp_path / "states"
    source = tmp_path / "source"
    seen = ["--size", "150x150", "--pixel-mm", "2.8", "--step-mm", "2"]
    virtual = ["--subjects", "2", "--seed", "5", "--spacing-mm", "3.5", "--train", "1", "--val", "0", "--test", "0"]
    assert main(["simulate", "--out", str(source), "--subjects", "1", "--seed", "4", *virtual[4:], *seen]) == 0
    subject = next((source / "subjects").iterdir())
    files = ["--from-ct", str(subject / "ct.nii.gz"), "--labels", str(subject / "labels.nii.gz")]
    files += ["--calibration", str(subject / "calibration.json")]
    assert main(["simulate", "--out", str(states), *files, *FROM_CT[:4], *seen]) == 0
    assert main(["simulate", "--out", str(learn), *virtual, *seen]) == 0
    manifest = _joined(tmp_path / "manifest.csv", learn, states)
    frame = ["--frame-px", "64x128", "--frame-pixel-mm", "3.2,3.2"]
    assert main(["prepare", str(manifest), "--out", str(tmp_path / "data"), *frame, "--starts", "2"]) == 0
    dataset = read_dataset(tmp_path / "data")
    assert dataset.card.simulated
    truth = {one["subject"]: one["sides"] for one in json.loads((states / "truth.json").read_text())["subjects"]}
    tested = [record for record in dataset.records if record.split == "test"]
    assert {record.subject for record in tested} == set(truth)
    for record in tested:
        told = truth[record.subject][record.side.value]["total_hip_bmd_g_cm2"]
        assert record.bmd_qct_g_cm2 == pytest.approx(told, rel=0.01)
    reader = blob_reader(noise_g_cm2=0.05)
    reader.card = replace(reader.card, frame=dataset.card.frame)
    monkeypatch.setattr(hierbmd.predict, "load_predictor", lambda folder: reader)
    out = tmp_path / "figures"
    asked = ["--model", "m", "--data", str(tmp_path / "data"), "--out", str(out), "--bootstrap-samples", "150"]
    assert main(["evaluate", *asked]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["n_subjects"] == 2


def _joined(path, *cohorts):
    """One manifest of cohorts in folders beside it."""
    rows = []
    for cohort in cohorts:
        with (cohort / "manifest.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                here = {name: f"{cohort.name}/{row[name]}" for name in PATH_COLUMNS if row.get(name)}
                rows.append({**row, **here})
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_torso_ct_makes_no_pair_and_every_side_says_why(shared_data, tmp_path, capsys):
    """A nail in the left femur, and both cut above the lesser trochanter's end: radiographs with truth, no target."""
    folder, out = shared_data / "torso-ct", tmp_path / "states"
    files = ["--from-ct", str(folder / "example_ct.nii.gz")]
    files += ["--labels", str(folder / "example_ct_totalseg_labels.nii.gz")]
    assert main(["simulate", "--out", str(out), *files, *FROM_CT]) == 0
    truth = json.loads((out / "truth.json").read_text())["subjects"]
    assert len(truth) == len(read_manifest(out / "manifest.csv").rows) == 2
    for one in truth:
        assert "metal" in one["sides"]["left"]["refused"]
        assert "cut off" in one["sides"]["right"]["refused"]
        assert one["sides"]["right"]["femoral_neck_bmd_g_cm2"] > 0.3
        assert one["spine"]["l1_l4_bmd_g_cm2"] > 0.5
    capsys.readouterr()
    assert main(["prepare", str(out / "manifest.csv"), "--out", str(tmp_path / "data")]) == 1
    assert "not one pair could be made" in capsys.readouterr().err
    with (tmp_path / "data" / "refusals.csv").open(newline="") as stream:
        refused = [(row["side"], row["error_class"], row["reason"]) for row in csv.DictReader(stream)]
    assert sorted(side for side, _, _ in refused) == ["left", "left", "right", "right"]
    assert {kind for _, kind, _ in refused} == {"BadRegion"}
    assert all("cut off" in reason for _, _, reason in refused)
