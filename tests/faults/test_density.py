"""FAULTS 7-9, 13, 17, 22, 23 as the user of `calibrate` and `segment` meets them: one line, nothing written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.data.density import Material
from hierbmd.data.phantoms import phantom_of_name, phantom_to_json
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.io.atomic import write_json
from hierbmd.io.ct import read_voxels
from hierbmd.io.dicom_write import write_ct_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.labels import read_labels

WAYS = {
    "given": ["--slope", "0.8", "--intercept", "0"],
    "phantom": ["--phantom", "B-MAS200"],
    "internal": ["--internal"],
}


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused([command, ...], words)`: status 1, one line with the words, and no output folder."""

    def check(arguments, *words):
        out = tmp_path / "out"
        assert main([*map(str, arguments), "--out", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"hierbmd {arguments[0]}: ")
        assert error.count("\n") == 1
        for word in words:
            assert word in error
        assert not out.exists()

    return check


def _sheared():
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    matrix[1, 2] = 2.0 * np.tan(np.radians(15))
    return matrix


DAMAGES = {
    "7 tilt": (lambda hu: hu, _sheared(), "not orthogonal (15.0 deg)"),
    "9 attenuation": (lambda hu: 0.02 * (1 + hu / 1000), None, "values are not HU"),
    "9 all zero": (np.zeros_like, None, "every voxel is 0"),
    "9 unsigned": (lambda hu: np.clip(hu + 1024, 0, 4095), None, "12 bit"),
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("row", list(DAMAGES))
def test_a_damaged_ct_is_not_calibrated(sound_ct, tmp_path, refused, row, way):
    change, matrix, said = DAMAGES[row]
    grid = sound_ct.grid if matrix is None else Grid(sound_ct.grid.shape, matrix)
    write_volume(tmp_path / "ct.nii", Volume(change(sound_ct.values).astype(np.float32), grid))
    refused(["calibrate", tmp_path / "ct.nii", *WAYS[way]], said)


@pytest.mark.parametrize("row", list(DAMAGES))
def test_a_damaged_ct_is_not_segmented(sound_ct, tmp_path, refused, row):
    change, matrix, said = DAMAGES[row]
    grid = sound_ct.grid if matrix is None else Grid(sound_ct.grid.shape, matrix)
    write_volume(tmp_path / "ct.nii", Volume(change(sound_ct.values).astype(np.float32), grid))
    write_labels(tmp_path / "labels.nii", LabelMap(np.full(sound_ct.grid.shape, 75, np.uint8), sound_ct.grid))
    refused(["segment", tmp_path / "ct.nii", "--labels", tmp_path / "labels.nii"], said)


def test_7_a_tilted_ct_is_calibrated_on_request_only(sound_ct, tmp_path):
    write_volume(tmp_path / "ct.nii", Volume(sound_ct.values, Grid(sound_ct.grid.shape, _sheared())))
    arguments = ["calibrate", str(tmp_path / "ct.nii"), *WAYS["given"], "--out", str(tmp_path / "out")]
    assert main([*arguments, "--resample-tilt"]) == 0
    _, grid = read_voxels(tmp_path / "out" / "density.nii.gz", kind="CT")
    assert np.allclose(grid.world_from_index[:3, :3], np.diag(np.diag(grid.world_from_index)[:3]))


def test_8_rescale_is_applied_slice_by_slice_and_never_guessed(sound_ct, tmp_path, edited, refused, capsys):
    write_ct_dicom(tmp_path / "series", sound_ct)
    first, second = sorted((tmp_path / "series").glob("*.dcm"))[:2]
    plain, halved = tmp_path / "plain", tmp_path / "halved"
    assert main(["calibrate", str(tmp_path / "series"), *WAYS["given"], "--out", str(plain)]) == 0
    edited(first, RescaleSlope=0.5)
    assert main(["calibrate", str(tmp_path / "series"), *WAYS["given"], "--out", str(halved)]) == 0
    before, after = (read_voxels(out / "density.nii.gz", kind="CT")[0] for out in (plain, halved))
    assert np.array_equal(before[:, :, 1:], after[:, :, 1:])
    assert not np.array_equal(before[:, :, 0], after[:, :, 0])
    edited(second, RescaleSlope=None)
    capsys.readouterr()
    for way in WAYS.values():
        refused(["calibrate", tmp_path / "series", *way], "rescale")


@pytest.fixture
def files(coarse_patient, tmp_path):
    write_volume(tmp_path / "ct.nii.gz", coarse_patient.volume)
    write_labels(tmp_path / "labels.nii.gz", coarse_patient.labels)
    return tmp_path


def test_13_metal_is_taken_out_and_said(files, coarse_patient, capsys):
    femur = np.argwhere(coarse_patient.labels.mask("femur_left"))
    i, j = np.median(femur[femur[:, 2] < np.quantile(femur[:, 2], 0.4)], axis=0).astype(int)[:2]
    values = coarse_patient.volume.values.copy()
    values[i - 1 : i + 2, j - 1 : j + 2, : femur[:, 2].min() + 20] = 3071.0
    write_volume(files / "ct.nii.gz", Volume(values, coarse_patient.volume.grid))
    arguments = ["segment", str(files / "ct.nii.gz"), "--labels", str(files / "labels.nii.gz")]
    assert main([*arguments, "--out", str(files / "out")]) == 0
    assert "femur_left: metal" in capsys.readouterr().err
    bones = json.loads((files / "out" / "segmentation.json").read_text())["bones"]
    assert bones["femur_left"]["metal_mm3"] > 1000
    assert bones["femur_right"]["metal_mm3"] == 0
    left = read_labels(files / "out" / "labels.nii.gz").mask("femur_left")
    assert not left[values > 3000.0].any()
    assert left.any()


def test_17_exchanged_sides_are_refused_and_never_flipped(files, coarse_patient, refused):
    scheme = coarse_patient.labels.scheme
    write_json(
        files / "exchanged.json",
        {f"{bone}_{side}": scheme[f"{bone}_{other}"] for bone in ("femur", "hip") for side, other in SIDES},
    )
    labels = ["--labels", files / "labels.nii.gz", "--scheme", files / "exchanged.json"]
    refused(["segment", files / "ct.nii.gz", *labels], "left", "right")


SIDES = (("left", "right"), ("right", "left"))


def _rods(**changes):
    """B-MAS200's rod table with one thing changed in every rod, or in the table itself."""
    table = phantom_to_json(phantom_of_name("B-MAS200"))
    for name, change in changes.items():
        if name == "rods":
            table["rods"] = [{**rod, **change(rod)} for rod in table["rods"]]
        else:
            table[name] = change
    return table


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (_rods(rods=lambda rod: {"density_mg_cm3": rod["density_mg_cm3"] / 1000}), "g/cm3? give mg/cm3"),
        (_rods(rods=lambda rod: {"diameter_mm": rod["diameter_mm"] / 10}), "out of range"),
        (_rods(rods=lambda _: {"water_mg_cm3": 1000.0}), "never mixed"),
        (_rods(material=Material.K2HPO4.value), "never mixed"),
        (_rods(material="CaCO3"), "HA or K2HPO4"),
    ],
    ids=["22 g/cm3", "22 cm", "23 water in HA", "23 HA called K2HPO4", "23 another material"],
)
def test_22_and_23_a_rod_table_in_another_unit_or_of_two_materials(sound_ct, tmp_path, refused, table, said):
    write_volume(tmp_path / "ct.nii", sound_ct)
    write_json(tmp_path / "rods.json", table)
    refused(["calibrate", tmp_path / "ct.nii", "--phantom", tmp_path / "rods.json"], said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slope", "0.0008", "--intercept", "0"], "multiply by 1000"),
        (["--slope", "1.3e3", "--intercept", "0"], "another unit"),
        (["--slope", "0.8", "--intercept=-1024"], "offset of 1000 or 1024"),
        ([], "uncalibrated"),
        (["--phantom", "B-MAS200", "--internal"], "uncalibrated"),
    ],
    ids=["22 g/cm3", "22 turned over", "22 offset", "23 nothing", "23 two ways"],
)
def test_22_and_23_a_line_in_another_unit_or_none(sound_ct, tmp_path, refused, arguments, said):
    write_volume(tmp_path / "ct.nii", sound_ct)
    refused(["calibrate", tmp_path / "ct.nii", *arguments], said)


@pytest.mark.parametrize("way", ["phantom", "internal"])
def test_23_a_ct_without_a_phantom_or_tissues_gives_no_line(sound_ct, tmp_path, refused, way):
    said = {"phantom": "no phantom B-MAS200", "internal": "for an internal calibration"}[way]
    write_volume(tmp_path / "ct.nii", sound_ct)
    refused(["calibrate", tmp_path / "ct.nii", *WAYS[way]], said)
