"""A simulated cohort on disk: repeatable, resumable, the same by any number of workers, and true."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from hierbmd.data.splits import SPLITS
from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.geometry import Side, View
from hierbmd.io.calibration_file import read_calibration
from hierbmd.io.ct import read_volume
from hierbmd.io.geometry_file import geometry_from_json
from hierbmd.io.labels import read_labels
from hierbmd.io.manifest import read_manifest
from hierbmd.io.radiograph import read_radiograph
from hierbmd.rigid import require_rigid
from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions, StudyOptions
from hierbmd.simulation.recipe import TRUTH_VERSION, Recipe
from hierbmd.simulation.study import simulate_study

RECIPE = Recipe(
    PatientOptions(seed=2, spacing_mm=4.5),
    RadiographSimulationOptions(step_mm=3.0, table=False),
    StudyOptions(subjects=3, poses=2, size_px=(64, 64), pixel_mm=6.4),
)


def _hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The cohort made in this process, with its files' hashes."""
    out = tmp_path_factory.mktemp("study") / "cohort"
    made = list(simulate_study(out, RECIPE))
    assert [was_there for _, was_there in made] == [False] * 3
    return out, _hashes(out)


def test_the_manifest_reads_back_and_names_every_file(study):
    manifest = read_manifest(study[0] / "manifest.csv")
    assert len(manifest.rows) == 6
    assert len(manifest.subjects) == 3
    for row in manifest.rows:
        assert row.view == View.AP
        assert row.side == Side.BOTH
        assert row.split in SPLITS
        assert row.extra["simulated"] == "true"
        assert 140 < row.height_cm < 200
    row = manifest.rows[0]
    volume, labels = read_volume(row.ct), read_labels(row.labels)
    assert volume.grid == labels.grid
    assert {"femur_left", "femur_right", "hip_left", "hip_right"} <= set(labels.names_present)
    radiograph = read_radiograph(row.radiograph)
    assert radiograph.size_px == (64, 64)
    assert radiograph.side == Side.BOTH
    assert radiograph.sdd_mm == 1150.0
    assert radiograph.source_isocentre_mm == 1000.0


def test_the_truth_says_where_each_bone_is_and_how_dense(study):
    truth = json.loads((study[0] / "truth.json").read_text())
    assert truth["simulated"] is True
    assert "Research use only" in truth["research_use_only"]
    for subject in truth["subjects"]:
        assert len(subject["radiographs"]) == 2
        for radiograph in subject["radiographs"]:
            geometry = geometry_from_json(radiograph["geometry"])
            for name, bone in radiograph["bones"].items():
                pose = require_rigid(bone["camera_from_world"])
                motion = require_rigid(bone["world_from_world"])
                assert pose == pytest.approx(geometry.camera_from_world @ motion, abs=1e-9)
                assert np.allclose(motion, np.eye(4)) == (not name.startswith("femur"))
        for side in ("left", "right"):
            assert 0.2 < subject["sides"][side]["total_hip_bmd_g_cm2"] < 1.7


def test_the_written_ct_calibrates_to_the_written_density(study):
    folder = study[0] / "subjects" / "sim002-00000"
    line = read_calibration(folder / "calibration.json")
    scan, density = read_volume(folder / "ct.nii.gz"), read_volume(folder / "density.nii.gz", unit="mg/cm3 HA")
    bone = density.values > 300
    read = line.slope * scan.values[bone] + line.intercept
    # At 4.5 mm most bone voxels hold some soft tissue, which reads as a few tens of mg/cm3.
    assert np.mean(read - density.values[bone]) == pytest.approx(0.0, abs=40.0)


def test_positions_and_aims_are_each_a_radiograph_with_its_truth(tmp_path):
    recipe = Recipe(
        PatientOptions(seed=2, spacing_mm=6.0, coverage="torso", implant_share=1.0),
        RadiographSimulationOptions(step_mm=4.0, table=False),
        StudyOptions(
            subjects=1,
            poses=2,
            size_px=(48, 48),
            pixel_mm=8,
            positions=("standing", "abduction"),
            aims=("hips", "lumbar"),
        ),
    )
    list(simulate_study(tmp_path / "laid", recipe))
    (subject,) = json.loads((tmp_path / "laid" / "truth.json").read_text())["subjects"]
    said = [(one["position"], one["aim"]) for one in subject["radiographs"]]
    assert said == [("standing", "hips"), ("abduction", "hips"), ("standing", "lumbar"), ("abduction", "lumbar")]
    assert subject["spine"]["l1_l4_bmd_g_cm2"] > 0.3
    assert sorted(side.get("refused", "") != "" for side in subject["sides"].values()) == [False, True]
    rows = read_manifest(tmp_path / "laid" / "manifest.csv").rows
    assert [row.extra["aim"] for row in rows] == ["hips", "hips", "lumbar", "lumbar"]
    assert [row.side for row in rows] == [Side.BOTH, Side.BOTH, Side.NONE, Side.NONE]
    assert read_radiograph(rows[-1].radiograph).side is Side.NONE
    assert {rows[0].extra["implant_left"], rows[0].extra["implant_right"]} - {"none"}
    # The abducted left thigh's shaft, below the head, goes to the patient's left.
    motion = np.array(subject["radiographs"][1]["bones"]["femur_left"]["world_from_world"])
    assert (motion[:3, :3] @ [0, 0, -100.0])[0] > 5


@pytest.mark.parametrize("wrong", [{"positions": ("sitting",)}, {"aims": ("knee",)}, {"aims": ()}])
def test_unknown_positions_and_aims_are_refused(wrong):
    with pytest.raises(BadConfig):
        StudyOptions(**wrong)


def test_two_workers_give_the_same_bytes(study, tmp_path):
    list(simulate_study(tmp_path / "two", RECIPE, workers=2))
    assert _hashes(tmp_path / "two") == study[1]


def test_called_again_it_does_nothing_and_what_is_missing_is_made_again(study, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(study[0], out)
    assert [was_there for _, was_there in simulate_study(out, RECIPE)] == [True] * 3
    (out / "subjects" / "sim002-00001" / "radiograph_01.dcm").unlink()
    assert [was_there for _, was_there in simulate_study(out, RECIPE)] == [True, True, False]
    assert _hashes(out) == study[1]


def test_killed_and_called_again_it_ends_the_same(study, tmp_path):
    """kill -9 once the first subject stands; nothing half-written counts, and the rest is made (FAULTS row 31)."""
    out = tmp_path / "killed"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_study import RECIPE\n"
        "from hierbmd.simulation.study import simulate_study\n"
        "list(simulate_study(sys.argv[1], RECIPE))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(out), os.path.dirname(__file__)])
    first = out / "subjects" / "sim002-00000" / "truth.json"
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.csv").exists()
    list(simulate_study(out, RECIPE))
    left = {name: digest for name, digest in _hashes(out).items() if ".tmp." not in name}
    assert left == study[1]


def test_a_cohort_that_an_earlier_version_finished_is_taken_as_it_is(study, tmp_path, caplog):
    """What was begun on a finished cohort goes on after an upgrade; one left unfinished is refused."""
    out = tmp_path / "earlier"
    shutil.copytree(study[0], out)
    before = RECIPE.digest(2)
    for path in [out / "truth.json", *out.glob("subjects/*/truth.json")]:
        said = path.read_text().replace(RECIPE.digest(), before).replace(f'"version": {TRUTH_VERSION}', '"version": 2')
        path.write_text(said)
    left = _hashes(out)
    assert [was_there for _, was_there in simulate_study(out, RECIPE)] == [True] * 3
    assert "version 2" in caplog.text
    assert _hashes(out) == left
    more = replace(RECIPE, study=replace(RECIPE.study, subjects=4))
    with pytest.raises(BadConfig, match="another version"):
        list(simulate_study(out, more))
    (out / "subjects" / "sim002-00001" / "radiograph_01.dcm").unlink()
    with pytest.raises(BadConfig, match="another version"):
        list(simulate_study(out, RECIPE))


def test_a_folder_of_other_options_is_refused(study):
    with pytest.raises(BadConfig, match="other --out"):
        list(simulate_study(study[0], Recipe(RECIPE.patient, RadiographSimulationOptions(kvp=70.0), RECIPE.study)))


def test_a_folder_of_another_seed_is_refused_and_its_manifest_stays(study):
    before = (study[0] / "manifest.csv").read_bytes()
    other = Recipe(replace(RECIPE.patient, seed=RECIPE.patient.seed + 1), RECIPE.radiograph, RECIPE.study)
    with pytest.raises(BadConfig, match="made with other options"):
        list(simulate_study(study[0], other))
    assert (study[0] / "manifest.csv").read_bytes() == before
    assert len(list((study[0] / "subjects").iterdir())) == RECIPE.study.subjects


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"sdd_mm": 1.15}, SuspectedUnit),
        ({"pixel_mm": 0.0016}, SuspectedUnit),
        ({"source_isocentre_mm": 1200.0}, SuspectedUnit),
        ({"subjects": 0}, BadConfig),
        ({"rotation_deg": 45.0}, BadConfig),
    ],
)
def test_metres_for_millimetres_and_the_like_are_refused(wrong, error):
    with pytest.raises(error):
        StudyOptions(**wrong)
