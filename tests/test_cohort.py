"""From a manifest to a training set: what comes out, what is refused, and that stopping it anywhere does no harm."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.hip import measure_hip
from hierbmd.anatomy.options import RegionOptions
from hierbmd.cohort import PrepareOptions, prepare
from hierbmd.data.halves import HalfFrame
from hierbmd.data.radiograph import Radiograph
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import BadConfig, BadManifest, OutputUnwritable, SplitLeak
from hierbmd.geometry import Camera, Motion, Placement, Side, View
from hierbmd.io.atomic import write_json
from hierbmd.io.calibration_file import write_calibration
from hierbmd.io.dataset import read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.labels import read_labels
from hierbmd.pairing.options import PairingOptions, RowOptions
from hierbmd.registration.outcome import BoneRegistration, Outcome, Uncertainty
from hierbmd.rigid import transform_points

CAMERA = Camera(1150.0, (128, 128), (3.2, 3.2))
FRAME = HalfFrame((64, 128), (3.2, 3.2))
OPTIONS = PrepareOptions(row=RowOptions(pairing=PairingOptions(frame=FRAME)), row_limit_s=None)
COLUMNS = ("subject", "ct", "labels", "radiograph", "calibration", "view", "side", "pose", "split", "simulated")


class TruePoses:
    """A registrar that knows: every bone stands where it starts, except those that it is told to lose."""

    def __init__(self, *, lost=(), dies_at=None):
        self.lost, self.calls, self.dies_at = lost, 0, dies_at

    def __call__(self, volume, labels, radiograph, start, *, bones, options):
        self.calls += 1
        if self.calls == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sure = Uncertainty(*[0.1] * 8)
        return {
            bone: BoneRegistration(
                name=bone,
                camera_from_world=start.camera_from_world,
                outcome=Outcome.FLAT if bone in self.lost else Outcome.CONVERGED,
                similarity=0.9,
                uncertainty=sure,
                starts=(),
                seconds=0.0,
            )
            for bone in bones
        }


@pytest.fixture(scope="module")
def files(coarse_patient, tmp_path_factory):
    """One patient's files, with two radiographs of it that differ in the patient's pose."""
    folder = tmp_path_factory.mktemp("cohort")
    write_volume(folder / "ct.nii.gz", coarse_patient.volume)
    write_labels(folder / "labels.nii.gz", coarse_patient.labels)
    write_calibration(folder / "line.json", coarse_patient.calibration)
    projector = make_projector(make_scene(coarse_patient.volume, quantity="attenuation"))
    placement = Placement(View.AP, coarse_patient.volume.grid.centre_world_mm, 1000.0)
    for name, motion in (("a", Motion()), ("b", Motion(tx_mm=4.0))):
        image = projector.image(CAMERA, placement.camera_from_world(motion))[0]
        radiograph = Radiograph(image, CAMERA.pixel_mm, CAMERA.sdd_mm, 1000.0, View.AP, Side.BOTH)
        write_radiograph_dicom(folder / f"{name}.dcm", radiograph)
    return folder


def _manifest(folder, *rows):
    path = folder / "manifest.csv"
    common = {"ct": "ct.nii.gz", "labels": "labels.nii.gz", "calibration": "line.json", "pose": "0 0 0 0 0 0"}
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys([*COLUMNS, *(k for row in rows for k in row)])), restval="")
        writer.writeheader()
        writer.writerows({**common, "simulated": "true", **row} for row in rows)
    return path


@pytest.fixture
def two(files, tmp_path):
    """A cohort of two: one sound subject, one whose label map is not readable."""
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    (folder / "broken.nii.gz").write_bytes(b"no image")
    sound = {"subject": "P1", "radiograph": "a.dcm", "split": "train"}
    return _manifest(folder, sound, {"subject": "P2", "radiograph": "b.dcm", "labels": "broken.nii.gz"})


def _table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _content(out):
    """Every file of a data set but the locks, by name."""
    return {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and p.suffix != ".lock"}


def test_another_region_can_be_the_target(two, tmp_path, coarse_patient):
    row = RowOptions(pairing=PairingOptions(frame=FRAME, region=RegionOptions(region="femoral_neck")))
    prepare(two, tmp_path / "out", PrepareOptions(row=row), registrar=TruePoses())
    dataset = read_dataset(tmp_path / "out")
    assert dataset.card.region == "femoral_neck"
    record = dataset.records[0]
    hip = measure_hip(coarse_patient.volume, coarse_patient.labels, record.side, coarse_patient.calibration)
    assert record.bmd_qct_g_cm2 == pytest.approx(hip.regions["femoral_neck"].bmd.bmd_g_cm2)
    assert record.bmd_qct_g_cm2 != pytest.approx(hip.bmd.bmd_g_cm2, rel=0.02)
    assert 0 < dataset.load(record).region_mask.sum() < 0.5 * (dataset.load(record).bones[1] > 0.02).sum()


def _labelled_by_itself(monkeypatch):
    """The patient is its own atlas and nothing moves: tests/anatomy/test_atlas.py has the registration itself."""
    calls = []

    def still(fixed, moving, **_):
        calls.append(1)
        return np.zeros((*fixed.grid.shape, 3))

    monkeypatch.setattr("hierbmd.anatomy.atlas_warp.field_mm", still)
    monkeypatch.setattr("hierbmd.pairing.labels.import_elastix", lambda: None)
    return calls


def _with_atlas(folder, **changes):
    atlas = AtlasOptions(atlas=(str(folder / "ct.nii.gz"), str(folder / "labels.nii.gz")), by_bone=False, **changes)
    return dataclasses.replace(OPTIONS, row=dataclasses.replace(OPTIONS.row, atlas=atlas))


def test_rows_without_labels_take_the_atlass_once_for_each_ct(files, tmp_path, monkeypatch, coarse_patient):
    calls = _labelled_by_itself(monkeypatch)
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(files, folder)
    rows = [{"subject": "P1", "radiograph": f"{name}.dcm", "labels": "", "split": "train"} for name in ("a", "b")]
    manifest, options = _manifest(folder, *rows), _with_atlas(folder)
    done = prepare(manifest, out, options, registrar=TruePoses())
    assert (done.pairs, done.refusals, len(calls)) == (4, 0, 1)
    quality = _table(out / "qc.csv")
    assert {row["labels"] for row in quality} == {"atlas"}
    assert all(0 < float(row["labels_edge_offset_mm"]) < 4.0 for row in quality)
    (labels,) = (out / "labels").glob("*.nii.gz")
    found = read_labels(labels).mask("femur_left")
    true = coarse_patient.labels.mask("femur_left")
    assert 2 * np.count_nonzero(found & true) > 0.93 * (np.count_nonzero(found) + np.count_nonzero(true))

    # Done before: nothing is registered again, not even where the rows' own results are lost.
    assert prepare(manifest, out, options, registrar=TruePoses()).kept_tasks == 2
    shutil.rmtree(out / "tasks")
    (out / "tasks").mkdir()
    assert prepare(manifest, out, options, registrar=TruePoses()).pairs == 4
    assert len(calls) == 1
    labels.unlink()
    os.utime(folder / "a.dcm", (1, 1))
    prepare(manifest, out, options, registrar=TruePoses())
    assert len(calls) == 2
    # Another atlas is another label map.
    os.utime(folder / "labels.nii.gz", (1, 1))
    assert prepare(manifest, out, options, registrar=TruePoses()).kept_tasks == 0
    assert len(calls) == 3


def test_a_row_whose_atlas_does_not_fit_is_refused_with_its_reasons_and_the_rest_goes_on(files, tmp_path, monkeypatch):
    _labelled_by_itself(monkeypatch)
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(files, folder)
    monkeypatch.setattr("hierbmd.anatomy.atlas_gate.LEAST_RISE_HU", 5000.0)
    rows = [{"subject": "P1", "radiograph": "a.dcm"}, {"subject": "P2", "radiograph": "b.dcm", "labels": ""}]
    done = prepare(_manifest(folder, *rows), out, _with_atlas(folder), registrar=TruePoses())
    assert (done.pairs, done.refusals) == (2, 1)
    (refusal,) = _table(out / "refusals.csv")
    assert (refusal["subject"], refusal["error_class"]) == ("P2", "LabelsMismatch")
    assert "the atlas does not fit: HU rise by" in refusal["reason"]
    assert {row["labels"] for row in _table(out / "qc.csv")} == {"given"}


def test_an_atlas_that_is_not_there_is_said_before_any_work(files, tmp_path, monkeypatch):
    _labelled_by_itself(monkeypatch)
    row = {"subject": "P1", "radiograph": "a.dcm", "labels": ""}
    with pytest.raises(BadConfig, match="no such file"):
        prepare(_manifest(files, row), tmp_path / "out", _with_atlas(tmp_path / "nowhere"), registrar=TruePoses())
    assert not (tmp_path / "out").exists()


def test_a_sound_subject_gives_two_pairs_and_a_broken_one_a_refusal(two, tmp_path, coarse_patient):
    out = tmp_path / "out"
    seen = []
    done = prepare(two, out, OPTIONS, registrar=TruePoses(), progress=lambda n, total: seen.append((n, total)))
    assert (done.pairs, done.refusals, done.kept_tasks) == (2, 1, 0)
    assert seen == [(1, 2), (2, 2)]

    (refusal,) = _table(out / "refusals.csv")
    assert (refusal["subject"], refusal["stage"], refusal["line"]) == ("P2", "read", "3")
    assert refusal["error_class"] == "UnreadableFile"
    assert "broken.nii.gz" in refusal["reason"]

    dataset = read_dataset(out)
    assert dataset.card.simulated
    assert dataset.card.frame == FRAME
    assert (dataset.card.sdd_mm, dataset.card.view) == (1150.0, View.AP)
    assert [(r.pair_id, r.split, r.mirrored) for r in dataset.records] == [
        ("P1_left", "train", True),
        ("P1_right", "train", False),
    ]
    for record in dataset.records:
        hip = measure_hip(coarse_patient.volume, coarse_patient.labels, record.side, coarse_patient.calibration)
        assert record.bmd_g_cm2 == record.bmd_qct_g_cm2 == pytest.approx(hip.bmd.bmd_g_cm2, rel=1e-6)
        assert record.bmd_source == "qct"
        pair = dataset.load(record)
        read = pair.region[pair.region_mask > 0].mean()
        assert record.region_bmd_at_pose_g_cm2 == pytest.approx(float(read), rel=1e-5)
        assert read == pytest.approx(hip.bmd.bmd_g_cm2, rel=0.1)
        assert np.all(pair.region <= pair.bones[1] + 1e-4)
    assert {p.name for p in (out / "qc").iterdir()} == {"P1_left.png", "P1_right.png"}
    quality = _table(out / "qc.csv")
    for row, record in zip(quality, dataset.records, strict=True):
        assert row["region"] == dataset.card.region == "total_hip"
        assert float(row["bmd_total_hip_g_cm2"]) == pytest.approx(record.bmd_qct_g_cm2, abs=1e-5)
        assert float(row["at_pose_total_hip_g_cm2"]) == pytest.approx(record.region_bmd_at_pose_g_cm2, abs=1e-5)
        low, high = (float(row[f"bmd_{name}_g_cm2"]) for name in ("trochanter", "intertrochanter"))
        assert low < float(row["bmd_total_hip_g_cm2"]) < high
    assert [row["outcome_femur"] for row in quality] == ["CONVERGED", "CONVERGED"]
    assert all(0 < float(row["plane_shift_percent"]) < 1.5 for row in quality)


def test_each_bone_is_where_its_voxels_project(two, tmp_path, coarse_patient):
    """The pair's images against a plain splat of voxels through the half's own camera, mirrored side included."""
    prepare(two, tmp_path / "out", OPTIONS, registrar=TruePoses())
    dataset = read_dataset(tmp_path / "out")
    grid = coarse_patient.volume.grid
    pose = Placement(View.AP, grid.centre_world_mm, 1000.0).camera_from_world()
    line = coarse_patient.calibration
    for record in dataset.records:
        pair = dataset.load(record)
        for channel, bone in enumerate(("hip", "femur")):
            mask = coarse_patient.labels.mask(f"{bone}_{record.side}")
            points = transform_points(pose, transform_points(grid.world_from_index, np.argwhere(mask).astype(float)))
            detector_mm = 1150.0 * points[:, :2] / points[:, 2:]
            # The image's middle is the half's medial edge; a left hip is shown at +x and mirrored.
            lateral_mm = -detector_mm[:, 0] if record.side == Side.RIGHT else detector_mm[:, 0]
            column, row = 63.5 - lateral_mm / 3.2, 63.5 + detector_mm[:, 1] / 3.2
            # A voxel's share of the image grows with its magnification squared, and with the slant of its ray.
            weight = np.maximum(line.slope * coarse_patient.volume.values[mask] + line.intercept, 0)
            weight *= np.linalg.norm(points, axis=1) / points[:, 2] ** 3
            shown = (column > -0.5) & (column < 63.5) & (row > -0.5) & (row < 127.5)
            rows, columns = np.indices(pair.bones[channel].shape)
            image = pair.bones[channel].astype(np.float64)
            centre = [(columns * image).sum() / image.sum(), (rows * image).sum() / image.sum()]
            splat = [np.average(column[shown], weights=weight[shown]), np.average(row[shown], weights=weight[shown])]
            assert centre == pytest.approx(splat, abs=0.15)


def test_a_finished_run_is_not_done_again_and_changed_options_or_files_are(two, tmp_path):
    out, registrar = tmp_path / "out", TruePoses()
    prepare(two, out, OPTIONS, registrar=registrar)
    before = _content(out)
    again = prepare(two, out, OPTIONS, registrar=registrar)
    assert (again.kept_tasks, registrar.calls) == (2, 1)
    assert _content(out) == before

    options = PrepareOptions(
        row=RowOptions(pairing=PairingOptions(frame=HalfFrame((32, 64), (6.4, 6.4)))), row_limit_s=None
    )
    assert prepare(two, out, options, registrar=registrar).kept_tasks == 0
    assert registrar.calls == 2
    assert read_dataset(out).card.frame.size_px == (32, 64)

    shutil.copy(two.parent / "labels.nii.gz", two.parent / "broken.nii.gz")
    mended = prepare(two, out, options, registrar=registrar)
    assert (mended.pairs, mended.refusals, mended.kept_tasks) == (4, 0, 1)


def test_what_the_manifest_says_of_a_patient_may_change_without_new_images(two, tmp_path):
    out, registrar = tmp_path / "out", TruePoses()
    prepare(two, out, OPTIONS, registrar=registrar)
    two.write_text(two.read_text().replace(",train,", ",val,"))
    assert prepare(two, out, OPTIONS, registrar=registrar).kept_tasks == 2
    assert {record.split for record in read_dataset(out).records} == {"val"}
    assert registrar.calls == 1


def test_rows_of_two_definitions_of_area_are_not_joined(two, tmp_path):
    """A set that an earlier version finished is kept; one that it left unfinished is refused, and nothing is added."""
    out, registrar = tmp_path / "out", TruePoses()
    prepare(two, out, OPTIONS, registrar=registrar)
    for path in out.glob("tasks/*.json"):
        stored = json.loads(path.read_text())
        assert stored["result"].pop("area_version") == 2
        path.write_text(json.dumps(stored))
    assert prepare(two, out, OPTIONS, registrar=registrar).kept_tasks == 2
    next(path for path in out.glob("tasks/*.json") if not json.loads(path.read_text())["result"]["pairs"]).unlink()
    before = _content(out)
    with pytest.raises(BadConfig, match="earlier version"):
        prepare(two, out, OPTIONS, registrar=registrar)
    assert _content(out) == before


def test_a_lost_pair_file_is_made_again(two, tmp_path):
    out, registrar = tmp_path / "out", TruePoses()
    prepare(two, out, OPTIONS, registrar=registrar)
    before = _content(out)
    (out / "pairs" / "P1_left.npz").unlink()
    assert prepare(two, out, OPTIONS, registrar=registrar).kept_tasks == 1
    assert _content(out) == before


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(files, tmp_path):
    """SIGKILL in the second subject's registration; what an uninterrupted run gives is what the two runs give."""
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    manifest = _manifest(
        folder, {"subject": "P1", "radiograph": "a.dcm"}, {"subject": "P2", "radiograph": "b.dcm", "split": "test"}
    )
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare(manifest, whole, OPTIONS, registrar=TruePoses())
    child = os.fork()
    if child == 0:
        prepare(manifest, out, OPTIONS, registrar=TruePoses(dies_at=2))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not (out / "dataset.json").exists()

    registrar = TruePoses()
    done = prepare(manifest, out, OPTIONS, registrar=registrar)
    assert (done.pairs, done.kept_tasks, registrar.calls) == (4, 1, 1)
    assert _content(out) == _content(whole)


def test_two_runs_at_once_give_one_result(two, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare(two, whole, OPTIONS, registrar=TruePoses())
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            registrar = TruePoses()
            prepare(two, out, OPTIONS, registrar=registrar)
            os._exit(registrar.calls)
        children.append(child)
    calls = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(calls) == [0, 1], "one of the two did the work, the other took its result"
    assert _content(out) == _content(whole)


def test_only_converged_poses_become_targets(two, tmp_path):
    out = tmp_path / "out"
    done = prepare(two, out, OPTIONS, registrar=TruePoses(lost=("femur_left",)))
    assert (done.pairs, done.refusals) == (1, 2)
    (refusal,) = (row for row in _table(out / "refusals.csv") if row["subject"] == "P1")
    assert (refusal["side"], refusal["stage"], refusal["error_class"]) == ("left", "register", "FLAT")
    assert "femur: flat" in refusal["reason"]
    assert not (out / "pairs" / "P1_left.npz").exists()


def test_the_manifests_bmd_wins_and_names_its_source(files, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    row = {"subject": "P1", "radiograph": "a.dcm", "side": "right", "bmd_g_cm2": "0.871", "bmd_source": "dxa"}
    prepare(_manifest(folder, row), tmp_path / "out", OPTIONS, registrar=TruePoses())
    (record,) = read_dataset(tmp_path / "out").records
    assert (record.side, record.bmd_g_cm2, record.bmd_source) == (Side.RIGHT, 0.871, "dxa")
    assert record.bmd_qct_g_cm2 != 0.871


def test_a_patients_second_radiograph_is_a_pair_of_its_own_in_the_same_split(files, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    manifest = _manifest(folder, *({"subject": "P1", "radiograph": name} for name in ("a.dcm", "b.dcm")))
    prepare(manifest, tmp_path / "out", OPTIONS, registrar=TruePoses())
    records = read_dataset(tmp_path / "out").records
    assert [record.pair_id for record in records] == ["P1_left", "P1_right", "P1+2_left", "P1+2_right"]
    assert len({record.split for record in records}) == 1


# Refusals, FAULTS 13, 17, 23 and 24


@pytest.mark.parametrize(
    ("row", "error_class", "stage"),
    [
        ({"calibration": ""}, "Uncalibrated", "calibrate"),
        ({"labels": ""}, "LabelsMismatch", "read"),
        ({"radiograph": "ct.nii.gz"}, "UnreadableFile", "read"),
        ({"view": "PA"}, "ViewConflict", "read"),
        ({"radiograph": "none.dcm", "side": ""}, "SideConflict", "read"),
        ({"radiograph": "right.dcm", "side": "left"}, "SideConflict", "read"),
    ],
)
def test_a_row_that_cannot_be_used_is_recorded_and_the_rest_goes_on(files, tmp_path, row, error_class, stage):
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    image = np.random.default_rng(0).random((64, 64), np.float32)
    for name, side in (("none", None), ("right", Side.RIGHT)):
        silent = Radiograph(image, (3.2, 3.2), 1150.0, 1000.0, View.AP, side)
        write_radiograph_dicom(folder / f"{name}.dcm", silent)
    bad = {"subject": "P2", "radiograph": "b.dcm", **row}
    manifest = _manifest(folder, bad, {"subject": "P1", "radiograph": "a.dcm"})
    done = prepare(manifest, tmp_path / "out", OPTIONS, registrar=TruePoses())
    assert (done.pairs, done.refusals) == (2, 1)
    (refusal,) = _table(tmp_path / "out" / "refusals.csv")
    assert (refusal["subject"], refusal["error_class"], refusal["stage"]) == ("P2", error_class, stage)


def test_metal_refuses_its_side_alone_unless_it_is_kept_and_flagged(files, tmp_path, coarse_patient):
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    values = coarse_patient.volume.values.copy()
    at = np.argwhere(coarse_patient.labels.mask("femur_left"))[2000]
    values[tuple(at)] = 3071.0
    write_volume(folder / "ct.nii.gz", dataclasses.replace(coarse_patient.volume, values=values))
    manifest = _manifest(folder, {"subject": "P1", "radiograph": "a.dcm"})
    prepare(manifest, tmp_path / "out", OPTIONS, registrar=TruePoses())
    (refusal,) = _table(tmp_path / "out" / "refusals.csv")
    assert (refusal["side"], refusal["stage"]) == ("left", "measure")
    assert "metal" in refusal["reason"]

    keeping = PrepareOptions(row=RowOptions(pairing=PairingOptions(frame=FRAME, keep_metal=True)), row_limit_s=None)
    prepare(manifest, tmp_path / "kept", keeping, registrar=TruePoses())
    assert [record.metal for record in read_dataset(tmp_path / "kept").records] == [True, False]


def test_a_region_that_the_radiograph_cuts_off_is_refused(files, tmp_path):
    narrow = PrepareOptions(
        row=RowOptions(pairing=PairingOptions(frame=HalfFrame((30, 128), (3.2, 3.2)))), row_limit_s=None
    )
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    with pytest.raises(BadManifest, match=r"not one pair.*of the region is on the left half"):
        prepare(
            _manifest(folder, {"subject": "P1", "radiograph": "a.dcm"}),
            tmp_path / "out",
            narrow,
            registrar=TruePoses(),
        )
    assert len(_table(tmp_path / "out" / "refusals.csv")) == 2


def test_one_patient_in_two_splits_is_refused_before_any_work(files, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    rows = [{"subject": "P1", "radiograph": f"{name}.dcm", "split": s} for name, s in (("a", "train"), ("b", "test"))]
    with pytest.raises(SplitLeak, match=r"line 2 \(train\) and line 3 \(test\)"):
        prepare(_manifest(folder, *rows), tmp_path / "out", OPTIONS, registrar=TruePoses())
    assert not (tmp_path / "out").exists()


def test_the_same_pixels_under_two_patients_are_refused_and_both_are_listed(files, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(files, folder)
    shutil.copy(folder / "a.dcm", folder / "copy.dcm")
    rows = [{"subject": f"P{n}", "radiograph": name} for n, name in enumerate(("a.dcm", "copy.dcm", "b.dcm"), 1)]
    done = prepare(_manifest(folder, *rows), tmp_path / "out", OPTIONS, registrar=TruePoses())
    assert (done.pairs, done.refusals) == (2, 4)
    assert {record.subject for record in read_dataset(tmp_path / "out").records} == {"P3"}
    for refusal in _table(tmp_path / "out" / "refusals.csv"):
        assert refusal["error_class"] == "SplitLeak"
        assert "P1_left" in refusal["reason"]
        assert "P2_right" in refusal["reason"]


def test_a_folder_that_holds_something_else_is_left_alone(two, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputUnwritable, match="something else"):
        prepare(two, out, OPTIONS, registrar=TruePoses())
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


class _Bomb:
    """What ends the process that unpickles it, as a decoder's crash would."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_process_that_dies_is_a_refusal(two, tmp_path):
    with pytest.raises(BadManifest, match="not one pair"):
        prepare(two, tmp_path / "out", dataclasses.replace(OPTIONS, workers=2), registrar=_Bomb())
    rows = _table(tmp_path / "out" / "refusals.csv")
    assert [row["error_class"] for row in rows] == ["ProcessDied", "ProcessDied"]


def test_a_row_that_takes_too_long_is_a_refusal(two, tmp_path):
    """As a decoder that hangs would; no row can be done in a millisecond."""
    with pytest.raises(BadManifest, match="not one pair"):
        prepare(two, tmp_path / "out", dataclasses.replace(OPTIONS, row_limit_s=1e-3))
    rows = _table(tmp_path / "out" / "refusals.csv")
    assert [row["error_class"] for row in rows] == ["ProcessDied", "ProcessDied"]
    assert all("took longer than 0.001 s" in row["reason"] for row in rows)
    with pytest.raises(BadConfig, match="limit"):
        PrepareOptions(row_limit_s=0.0)


def test_a_dask_cluster_gives_the_same_files(two, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask and distributed are the extra `scale`")
    whole, out = tmp_path / "whole", tmp_path / "out"
    registrar = TruePoses()
    prepare(two, whole, OPTIONS, registrar=TruePoses())
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        options = dataclasses.replace(OPTIONS, scheduler=cluster.scheduler_address)
        done = prepare(two, out, options, registrar=registrar)
        again = prepare(two, out, options, registrar=registrar)
    assert (done.pairs, done.refusals, again.kept_tasks) == (2, 1, 2)
    assert _content(out) == _content(whole)


def test_the_default_registrar_and_several_processes(two: Path, tmp_path: Path):
    """The real registration, from a start that is off by what the pose column says, in two processes."""
    two.write_text(two.read_text().replace("0 0 0 0 0 0", "2 -2 1 6 -5 10"))
    done = prepare(two, tmp_path / "out", dataclasses.replace(OPTIONS, workers=2))
    assert (done.pairs, done.refusals) == (2, 1)
    for row in _table(tmp_path / "out" / "qc.csv"):
        ratio = float(row["region_bmd_at_pose_g_cm2"]) / float(row["bmd_qct_g_cm2"])
        assert ratio == pytest.approx(1.0, abs=0.1)


def _decide(out, path, **said):
    """Save decisions on the pairs at places of the review page's table: `_decide(out, path, P1_left="reject")`."""
    keys = {row["whose"]: row["key"] for row in _table(out / "review.csv")}
    decisions = {keys[pair]: {"decision": what, "reason": "off the bone"} for pair, what in said.items()}
    write_json(path, {"version": 1, "decisions": decisions})
    return dataclasses.replace(OPTIONS, decisions=path)


def test_a_pair_that_a_person_rejected_is_refused_and_comes_back_without_work(two, tmp_path):
    out, registrar = tmp_path / "out", TruePoses()
    prepare(two, out, OPTIONS, registrar=registrar)
    whole = _content(out)
    assert "P1" not in re.sub('base64,[^"]*', "", (out / "review.html").read_text())
    options = _decide(out, tmp_path / "decisions.json", P1_left="reject", P1_right="accept")
    done = prepare(two, out, options, registrar=registrar)
    assert (done.pairs, done.refusals, done.stale_decisions, registrar.calls) == (1, 2, 0, 1)
    assert [record.pair_id for record in read_dataset(out).records] == ["P1_right"]
    refusal = _table(out / "refusals.csv")[-1]
    assert (refusal["subject"], refusal["side"], refusal["stage"], refusal["line"]) == ("P1", "left", "review", "2")
    assert refusal["reason"] == "rejected on the review page: off the bone"
    assert 'data-decision="reject" data-reason="off the bone"' in (out / "review.html").read_text()
    prepare(two, out, OPTIONS, registrar=registrar)
    assert _content(out) == whole
    assert registrar.calls == 1


def test_accepting_overrides_nothing_that_did_not_converge(two, tmp_path):
    out, registrar = tmp_path / "out", TruePoses(lost=("femur_left",))
    prepare(two, out, OPTIONS, registrar=registrar)
    page = (out / "review.html").read_text()
    assert page.count('data-refused="1"') == 1
    assert "flat: the image around the bone does not determine the pose" in page
    options = _decide(out, tmp_path / "decisions.json", P1_left="accept")
    done = prepare(two, out, options, registrar=registrar)
    assert (done.pairs, done.refusals) == (1, 2)
    assert [record.pair_id for record in read_dataset(out).records] == ["P1_right"]


def test_a_decision_on_what_was_made_from_other_files_does_not_hold(two, tmp_path):
    out = tmp_path / "out"
    prepare(two, out, OPTIONS, registrar=TruePoses())
    options = _decide(out, tmp_path / "decisions.json", P1_left="reject")
    os.utime(two.parent / "a.dcm", ns=(1, 1))
    done = prepare(two, out, options, registrar=TruePoses())
    assert (done.pairs, done.stale_decisions) == (2, 1)


def test_a_radiograph_with_burned_in_annotation_is_on_no_page(two, tmp_path, edited):
    edited(two.parent / "a.dcm", BurnedInAnnotation="YES")
    out = tmp_path / "out"
    prepare(two, out, OPTIONS, registrar=TruePoses())
    assert all(record.burned_in_annotation for record in read_dataset(out).records)
    page = (out / "review.html").read_text()
    assert page.count("Image withheld") == 4
    assert "data:image" not in page
    assert not (out / "review").exists()
    # The quality page shows what is made of the CT, and no radiograph.
    page = (out / "quality.html").read_text()
    assert page.count("withheld") == 2
    assert page.count("data:image/jpeg") == 1 + 2


def test_a_review_picture_that_is_gone_is_made_again(two, tmp_path):
    out, registrar = tmp_path / "out", TruePoses()
    prepare(two, out, OPTIONS, registrar=registrar)
    picture = out / "review" / "P1_left_femur.png"
    drawn = picture.read_bytes()
    picture.unlink()
    (out / "review" / "P9_left_femur.png").write_bytes(b"of a row that left the manifest")
    prepare(two, out, OPTIONS, registrar=registrar)
    assert picture.read_bytes() == drawn
    assert len(list((out / "review").iterdir())) == 4


def test_the_quality_page_shows_every_row_the_worst_first_and_names_nobody(two, tmp_path, coarse_patient):
    """A hip that registration lost is measured and shown all the same; a row that cannot be read stands first."""
    rows = [
        {"subject": "Miller", "radiograph": "a.dcm", "split": "train"},
        {"subject": "Meyer", "radiograph": "b.dcm", "calibration": "internal.json"},
        {"subject": "Smith", "radiograph": "b.dcm", "labels": "Smith.nii.gz"},
    ]
    shutil.copy(two.parent / "broken.nii.gz", two.parent / "Smith.nii.gz")
    internal = dataclasses.replace(coarse_patient.calibration, method="internal", notes=("internal calibration",))
    write_calibration(two.parent / "internal.json", internal)
    out = tmp_path / "out"
    registrar = TruePoses(lost=("femur_left",))
    prepare(_manifest(two.parent, *rows), out, OPTIONS, registrar=registrar)
    page = (out / "quality.html").read_text()
    heads = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert heads[0] == "line 4 of the manifest"
    assert set(heads) == {f"line {n} of the manifest" for n in (2, 3, 4)}
    assert not any(name in page for name in ("Miller", "Meyer", "Smith"))
    assert page.count("refused: ") == 3
    assert "the row&#x27;s labels" in page
    assert "SIMULATED" in page
    assert "Research use only" in page
    assert "INTERNAL" in page
    assert page.count("data:image/jpeg") == 2 * (1 + 2 + 1)
    assert len(list((out / "quality").glob("*.png"))) == 2 * (1 + 2)
    hip = measure_hip(coarse_patient.volume, coarse_patient.labels, Side.LEFT, coarse_patient.calibration)
    assert page.count(f"{hip.regions['femoral_neck'].bmd.bmd_g_cm2:.3f} g/cm2") == 2
    # What came of the internally calibrated CT says so wherever it goes.
    sources = {record.subject: record.bmd_source for record in read_dataset(out).records}
    assert sources == {"Miller": "qct", "Meyer": "qct (internal calibration)"}
    assert {row["subject"]: row["calibration"] for row in _table(out / "qc.csv")}["Meyer"] == "internal"
    # A picture that is gone is made again, a row's that is gone goes.
    (out / "quality" / "Miller_labels.png").unlink()
    assert prepare(_manifest(two.parent, *rows[:2]), out, OPTIONS, registrar=registrar).kept_tasks == 1
    assert (out / "quality" / "Miller_labels.png").is_file()
    prepare(_manifest(two.parent, rows[0]), out, OPTIONS, registrar=registrar)
    assert not list((out / "quality").glob("Meyer*"))
