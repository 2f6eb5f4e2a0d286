"""`hierbmd register` from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.cli.register import Options, _start
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap
from hierbmd.geometry import Grid, Side, View
from hierbmd.registration.body import surface_points
from hierbmd.registration.target import target_error
from hierbmd.rigid import transform_points

NAME = "femur_right"


def _arguments(folder, out, *more):
    paths = [str(folder / "ct.nii.gz"), str(folder / "xray.mha"), "--labels", str(folder / "labels.nii.gz")]
    return ["register", *paths, "--out", str(out), "--bones", NAME, "--polarity", "bright-bone", *more]


def test_from_a_geometry_file_to_a_pose(one_bone, tmp_path, capsys):
    folder, truth, labels = one_bone
    geometry = ["--geometry", str(folder / "start.json"), "--starts", "3"]
    assert main(_arguments(folder, tmp_path, *geometry)) == 0
    bone = json.loads((tmp_path / "registration.json").read_text())["bones"][NAME]
    assert bone["outcome"] == "converged"
    assert len(bone["starts"]) == 3
    error = target_error(np.array(bone["camera_from_world"]), truth, surface_points(labels, NAME))
    assert error.in_plane_mm < 0.5
    assert (tmp_path / f"{NAME}.png").is_file()
    assert (tmp_path / f"{NAME}.geometry.json").is_file()
    assert "converged" in capsys.readouterr().out


def test_the_search_is_as_wide_as_its_flags_say(one_bone, tmp_path, capsys):
    folder, _, _ = one_bone
    narrow = ["--start-in-plane-mm", "1", "--bound-in-plane-mm", "2", "--starts", "1"]
    assert main(_arguments(folder, tmp_path, "--geometry", str(folder / "start.json"), *narrow)) == 0
    bone = json.loads((tmp_path / "registration.json").read_text())["bones"][NAME]
    assert bone["outcome_code"] == "at_bounds"
    assert main(_arguments(folder, tmp_path, "--geometry", str(folder / "start.json"), "--bound-depth-mm", "1")) == 1
    assert "larger --bound-*" in capsys.readouterr().err


def test_from_options_alone(one_bone, tmp_path):
    folder, truth, labels = one_bone
    options = [
        "--pixel-mm",
        "2.5,2.5",
        "--sdd-mm",
        "1000",
        "--source-isocenter-mm",
        "850",
        "--view",
        "AP",
        "--side",
        "right",
    ]
    assert main(_arguments(folder, tmp_path, *options)) == 0
    bone = json.loads((tmp_path / "registration.json").read_text())["bones"][NAME]
    error = target_error(np.array(bone["camera_from_world"]), truth, surface_points(labels, NAME))
    assert bone["outcome"] == "converged"
    assert error.in_plane_mm < 0.5


@pytest.mark.parametrize(("side", "centre_x_mm"), [(Side.RIGHT, -80.0), (Side.BOTH, 0.0)])
def test_a_radiograph_of_both_hips_is_centred_between_them_whichever_bone_is_asked_for(side, centre_x_mm):
    ids = np.zeros((21, 5, 5), np.uint8)
    ids[2, 2, 2], ids[18, 2, 2] = 76, 75
    matrix = np.diag([10.0, 10.0, 10.0, 1.0])
    matrix[:3, 3] = [-100.0, -20.0, -20.0]
    labels = LabelMap(ids, Grid(ids.shape, matrix), {"femur_left": 75, NAME: 76})
    image = Radiograph(np.zeros((96, 96), np.float32), (2.5, 2.5), 1000.0, 850.0, View.AP, side)
    options = Options(ct=Path("ct"), radiograph=Path("x"), labels=Path("l"), out=Path("o"), bones=(NAME,))
    start = _start(options, image, labels, (NAME,))
    assert transform_points(start.camera_from_world, np.array([centre_x_mm, 0.0, 0.0])) == pytest.approx([0, 0, 850.0])


@pytest.mark.parametrize("missing", ["--sdd-mm", "--source-isocenter-mm"])
def test_missing_geometry_is_asked_for_in_one_line(one_bone, tmp_path, capsys, missing):
    folder, _, _ = one_bone
    said = {"--pixel-mm": "2.5,2.5", "--sdd-mm": "1000", "--source-isocenter-mm": "850", "--view": "AP"}
    flags = [text for flag, value in said.items() if flag != missing for text in (flag, value)]
    assert main(_arguments(folder, tmp_path / "out", *flags)) == 1
    complaint = capsys.readouterr().err.strip().splitlines()
    assert "geometry missing" in complaint[-1]
    assert missing in complaint[-1]
    assert not (tmp_path / "out").exists()


def test_a_bone_that_is_not_labelled_is_refused(one_bone, tmp_path, capsys):
    folder, _, _ = one_bone
    arguments = _arguments(folder, tmp_path / "out", "--geometry", str(folder / "start.json"))
    arguments[arguments.index("--bones") + 1] = "hip_left"
    assert main(arguments) == 1
    assert "no structure hip_left" in capsys.readouterr().err
