"""`hierbmd calibrate` of a scan by its phantom and by its own tissues: the files, the picture, and what is marked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from hierbmd.cli.main import main
from hierbmd.io.calibration_file import read_calibration
from hierbmd.io.image import write_volume
from hierbmd.io.phantom_file import write_phantom


@pytest.fixture(scope="module")
def files(scan_of, tmp_path_factory):
    folder, scan = tmp_path_factory.mktemp("scan"), scan_of("B-MAS200")
    write_volume(folder / "ct.nii.gz", scan.volume)
    write_phantom(folder / "rods.json", scan.phantom.phantom)
    return folder


def _require_picture(path):
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert min(picture.shape[:2]) > 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_by_the_phantom(files, scan_of, tmp_path, capsys):
    assert (
        main(["calibrate", str(files / "ct.nii.gz"), "--phantom", str(files / "rods.json"), "--out", str(tmp_path)])
        == 0
    )
    assert "5 rods" in capsys.readouterr().err
    found = read_calibration(tmp_path / "calibration.json")
    assert found.method == "phantom"
    drift = found.drift
    assert len(drift.by_slice_z_mm) == len(drift.by_slice_zero_hu) == len(drift.by_slice_hu_per_mg) == drift.slices
    assert np.mean(drift.by_slice_hu_per_mg) == pytest.approx(1.0 / found.slope, rel=1e-3)
    assert np.mean(drift.by_slice_zero_hu) == pytest.approx(-found.intercept / found.slope, abs=0.05)
    _require_picture(tmp_path / "calibration.png")


def test_by_the_patients_own_tissues(files, tmp_path, capsys):
    arguments = ["calibrate", str(files / "ct.nii.gz"), "--internal", "--kvp", "120", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "internal, less sure than a phantom" in capsys.readouterr().err
    stored = json.loads((tmp_path / "calibration.json").read_text())
    assert stored["method"] == "internal"
    assert "internal calibration" in stored["notes"][0]
    assert {one["name"] for one in stored["tissues"]} == {"air", "fat", "muscle", "cortical_bone"}
    assert 60.0 < stored["effective_kev"] < 80.0
    assert stored["uncertainty"]["slope_se"] < 0.07 * stored["slope"]
    _require_picture(tmp_path / "calibration.png")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--internal", "--phantom", "B-MAS200"], "give one"),
        (["--internal", "--slope", "0.8", "--intercept", "0"], "give one"),
        (["--phantom", "B-MAS200", "--kvp", "120"], "are for --internal"),
        (["--internal", "--kvp", "20"], "80 to 140"),
    ],
)
def test_ways_are_not_mixed(files, tmp_path, capsys, arguments, why):
    assert main(["calibrate", str(files / "ct.nii.gz"), *arguments, "--out", str(tmp_path)]) == 1
    assert why in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
