"""FAULTS 13 and 16 to 21 as the user of `hierbmd register` meets them: one line or an outcome, and no pose to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.data.radiograph import Radiograph
from hierbmd.geometry import Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.image import write_mha_image, write_volume
from hierbmd.io.radiograph import RadiographOptions, read_radiograph
from hierbmd.rigid import moved

NAME = "femur_right"


def _register(folder: Path, out: Path, *more: str, **files: Path) -> int:
    """The command's exit status: the CT, radiograph and start of `folder` unless others are given."""
    paths = [files.get("ct", folder / "ct.nii.gz"), files.get("radiograph", folder / "xray.mha")]
    labels = ["--labels", str(folder / "labels.nii.gz"), "--bones", NAME, "--out", str(out), "--starts", "2"]
    return main(["register", *map(str, paths), *labels, *more])


def _started(folder: Path, start: Path | None = None) -> list[str]:
    return ["--polarity", "bright-bone", "--geometry", str(start or folder / "start.json")]


def _bone(out: Path) -> dict[str, Any]:
    bone: dict[str, Any] = json.loads((out / "registration.json").read_text())["bones"][NAME]
    return bone


def _with_start(folder: Path, tmp_path: Path, pose: np.ndarray) -> Path:
    geometry = json.loads((folder / "start.json").read_text())
    path = tmp_path / "start.json"
    path.write_text(json.dumps(geometry | {"camera_from_world": pose.tolist()}))
    return path


@pytest.fixture
def film(one_bone, tmp_path) -> Path:
    """The radiograph as DICOM: AP, right."""
    pixels = read_radiograph(one_bone[0] / "xray.mha", RadiographOptions(polarity="bright-bone")).pixels
    write_radiograph_dicom(tmp_path / "film.dcm", Radiograph(pixels, (2.5, 2.5), 1000.0, 850.0, View.AP, Side.RIGHT))
    return tmp_path / "film.dcm"


def test_13_metal_in_the_bone_is_left_out_and_flagged(one_bone, tmp_path):
    folder, truth, _ = one_bone
    ct = read_volume(folder / "ct.nii.gz")
    at = np.linalg.inv(ct.grid.world_from_index) @ [12.0, 3.0, -10.0, 1.0]
    i, j, k = np.round(at[:3]).astype(int)
    ct.values[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 3071.0
    write_volume(tmp_path / "ct.nii.gz", ct)
    assert _register(folder, tmp_path / "out", *_started(folder), ct=tmp_path / "ct.nii.gz") == 0
    bone = _bone(tmp_path / "out")
    assert bone["metal_voxels_excluded"] >= 27
    assert bone["outcome"] == "converged"
    assert np.allclose(np.array(bone["camera_from_world"])[:2, 3], truth[:2, 3], atol=1.0)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            ({"PixelSpacing": ["2.0", "2.0"]}, [], ("ImagerPixelSpacing", "PixelSpacing 2")), id="16 spacings"
        ),
        pytest.param(({}, ["--side", "left"], ("side R", "left")), id="17 side"),
        pytest.param(({}, ["--view", "PA"], ("view AP", "PA")), id="18 view"),
    ],
)
def test_a_radiograph_that_contradicts_itself_or_the_user(one_bone, film, tmp_path, capsys, edited, case):
    tags, options, said = case
    if tags:
        edited(film, **tags)
    assert _register(one_bone[0], tmp_path / "out", *options, radiograph=film) == 1
    (complaint,) = capsys.readouterr().err.strip().splitlines()
    assert all(text in complaint for text in said), complaint
    assert not (tmp_path / "out").exists()


def test_16_the_option_decides_between_two_spacings(one_bone, film, tmp_path, edited):
    edited(film, PixelSpacing=["2.0", "2.0"])
    assert _register(one_bone[0], tmp_path / "out", "--pixel-mm", "2.5,2.5", radiograph=film) == 0
    assert _bone(tmp_path / "out")["outcome"] == "converged"


def test_19_a_bone_behind_the_source_is_off_image_and_has_no_pose_to_use(one_bone, tmp_path):
    folder, truth, _ = one_bone
    behind = moved(truth, np.array([0, 0, 0, 0, 0, -2000.0]), np.zeros(3))
    start = _with_start(folder, tmp_path, behind)
    assert _register(folder, tmp_path / "out", *_started(folder, start)) == 0
    assert _bone(tmp_path / "out")["outcome_code"] == "off_image"
    assert not (tmp_path / "out" / f"{NAME}.geometry.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(np.diag([-1.0, 1, 1, 1]), "determinant -1", id="reflects"),
        pytest.param(np.diag([1.1, 1.1, 1.1, 1]), "determinant 1.331", id="scales"),
    ],
)
def test_20_a_start_that_is_not_rigid(one_bone, tmp_path, capsys, change, said):
    folder, truth, _ = one_bone
    start = _with_start(folder, tmp_path, change @ truth)
    assert _register(folder, tmp_path / "out", *_started(folder, start)) == 1
    (complaint,) = capsys.readouterr().err.strip().splitlines()
    assert said in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shown", ["nothing", "noise", "another bone"])
def test_21_what_is_not_found_has_an_outcome_and_no_pose_to_use(one_bone, tmp_path, shown):
    folder, _, _ = one_bone
    rows, columns = np.mgrid[:96, :96]
    images = {
        "nothing": np.full((96, 96), 5.0),
        "noise": np.random.default_rng(0).normal(size=(96, 96)),
        "another bone": np.exp(-((columns - 48) ** 2 / 900 + (rows - 48) ** 2 / 30)),
    }
    write_mha_image(tmp_path / "xray.mha", images[shown], pixel_mm=(2.5, 2.5))
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{NAME}.geometry.json").write_text("of an earlier run")
    assert _register(folder, out, *_started(folder), radiograph=tmp_path / "xray.mha") == 0
    bone = _bone(out)
    assert bone["outcome_code"] in (
        "flat",
        "low_similarity",
        "at_bounds",
        "ambiguous",
        "disagreeing_starts",
        "diverged",
    )
    assert ":" in bone["outcome"], "an outcome explains itself"
    assert not (out / f"{NAME}.geometry.json").exists()
