"""`hierbmd calibrate` and `hierbmd segment`: the files that they leave, and their refusals."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.io.calibration_file import read_calibration
from hierbmd.io.ct import read_voxels
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.labels import read_labels


@pytest.fixture(scope="module")
def files(coarse_patient, tmp_path_factory):
    folder = tmp_path_factory.mktemp("patient")
    write_volume(folder / "ct.nii.gz", coarse_patient.volume)
    write_labels(folder / "labels.nii.gz", coarse_patient.labels)
    return folder


def test_calibrate_leaves_the_line_and_the_density(files, tmp_path, coarse_patient):
    assert (
        main(["calibrate", str(files / "ct.nii.gz"), "--slope", "0.8", "--intercept=-4", "--out", str(tmp_path)]) == 0
    )
    assert read_calibration(tmp_path / "calibration.json").intercept == -4.0
    values, grid = read_voxels(tmp_path / "density.nii.gz", kind="CT")
    assert grid == coarse_patient.volume.grid
    assert np.allclose(values, np.maximum(0.8 * coarse_patient.volume.values - 4.0, 0.0), atol=1e-3)


@pytest.mark.parametrize(
    "arguments", [[], ["--slope", "0.8"], ["--slope", "0.8", "--intercept", "0", "--calibration", "c.json"]]
)
def test_calibrate_says_what_is_missing(files, tmp_path, capsys, arguments):
    assert main(["calibrate", str(files / "ct.nii.gz"), "--out", str(tmp_path), *arguments]) == 1
    assert "uncalibrated" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_segment_leaves_bones_regions_and_their_scheme(files, tmp_path, coarse_patient):
    out = tmp_path / "out"
    status = main(["segment", str(files / "ct.nii.gz"), "--labels", str(files / "labels.nii.gz"), "--out", str(out)])
    assert status == 0
    bones = read_labels(out / "labels.nii.gz", scheme=out / "scheme.json")
    assert np.array_equal(bones.mask("femur_left"), coarse_patient.labels.mask("femur_left"))
    hips = read_labels(out / "total_hip.nii.gz", scheme=out / "scheme.json")
    assert set(hips.names_present) == {"total_hip_left", "total_hip_right"}
    assert not np.any(hips.mask("total_hip_right") & ~bones.mask("femur_right"))
    found = json.loads((out / "segmentation.json").read_text())
    assert found["femora"]["femur_left"]["side_by_handedness"] == "left"
    assert "Research use only" in found["research_use_only"]


def test_segment_by_an_atlas_leaves_labels_their_fit_and_a_picture(
    files, tmp_path, coarse_patient, monkeypatch, capsys
):
    """The registration itself is tests/anatomy/test_atlas.py's; here it moves nothing."""
    still = "hierbmd.anatomy.atlas_warp.field_mm"
    monkeypatch.setattr(still, lambda fixed, moving, **_: np.zeros((*fixed.grid.shape, 3)))
    ct, labels, out = files / "ct.nii.gz", files / "labels.nii.gz", tmp_path / "out"
    assert main(["segment", str(ct), "--atlas", f"{ct},{labels}", "--out", str(out)]) == 0
    assert "femur_left: edge " in capsys.readouterr().err
    found = json.loads((out / "segmentation.json").read_text())
    assert found["atlas"]["bones"]["hip_right"]["edge_rise_hu"] > 100
    assert found["femora"]["femur_left"]["side_by_handedness"] == "left"
    assert (out / "labels.png").is_file()


def test_segment_without_elastix_says_so_and_leaves_nothing(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "itk", None)
    ct, labels = files / "ct.nii.gz", files / "labels.nii.gz"
    assert main(["segment", str(ct), "--atlas", f"{ct},{labels}", "--out", str(tmp_path / "out")]) == 1
    assert "pip install hierbmd[elastix]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("both", [True, False])
def test_segment_wants_to_be_told_once_where_the_bones_are(files, tmp_path, capsys, both):
    ct, labels = files / "ct.nii.gz", files / "labels.nii.gz"
    said = ["--labels", str(labels), "--atlas", f"{ct},{labels}"] if both else []
    assert main(["segment", str(ct), *said, "--out", str(tmp_path / "out")]) == 1
    assert "--atlas CT,LABELS" in capsys.readouterr().err


def test_segment_maps_another_scheme_to_totalsegmentators_ids(files, tmp_path, coarse_patient):
    """Ids 1 and 2 for the left side's bones, by a scheme file; a name that is not known is left out and said."""
    ids = np.zeros(coarse_patient.labels.grid.shape, np.uint8)
    for number, name in enumerate(("femur_left", "hip_left"), start=1):
        ids[coarse_patient.labels.mask(name)] = number
    ids[0, 0, 0] = 3
    from hierbmd.data.volume import LabelMap

    write_labels(tmp_path / "other.nii.gz", LabelMap(ids, coarse_patient.labels.grid, {}))
    (tmp_path / "scheme.json").write_text('{"femur_left": 1, "hip_left": 2, "cement": 3}')
    arguments = ["--labels", str(tmp_path / "other.nii.gz"), "--scheme", str(tmp_path / "scheme.json")]
    assert main(["segment", str(files / "ct.nii.gz"), *arguments, "--out", str(tmp_path / "out")]) == 0
    bones = read_labels(tmp_path / "out" / "labels.nii.gz")
    assert np.array_equal(bones.mask("hip_left"), coarse_patient.labels.mask("hip_left"))
    assert set(bones.names_present) == {"femur_left", "hip_left"}
    assert json.loads((tmp_path / "out" / "segmentation.json").read_text())["left_out"] == ["cement"]


def test_segment_needs_labels(files, tmp_path, capsys):
    assert main(["segment", str(files / "ct.nii.gz"), "--out", str(tmp_path / "out")]) == 1
    assert "--labels" in capsys.readouterr().err
