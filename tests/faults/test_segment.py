"""What bad input gets from `hierbmd segment`, by the rows of FAULTS: one line, status 1, nothing left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.io.dicom_write import write_ct_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.units import METAL_HU


@pytest.fixture
def refused(tmp_path, capsys) -> Callable[..., str]:
    """`refused(ct, labels)` runs the command, which must refuse in one line and leave nothing; the line is returned."""

    def run(ct: Path, labels: Path) -> str:
        out = tmp_path / "out"
        assert main(["segment", str(ct), "--labels", str(labels), "--out", str(out)]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert not out.exists()
        return line

    return run


def _written(folder: Path, volume: Volume, labels: LabelMap) -> tuple[Path, Path]:
    write_volume(folder / "ct.nii.gz", volume)
    write_labels(folder / "labels.nii.gz", labels)
    return folder / "ct.nii.gz", folder / "labels.nii.gz"


def _on(grid: Grid, matrix: np.ndarray) -> Grid:
    return Grid(grid.shape, matrix)


def test_7_a_tilted_gantry_is_refused_and_resampled_on_request(hips, tmp_path, refused):
    volume, labels = hips
    matrix = volume.grid.world_from_index.copy()
    matrix[1, 2] = matrix[2, 2] * np.tan(np.radians(12))
    grid = _on(volume.grid, matrix)
    ct, given = _written(tmp_path, Volume(volume.values, grid), LabelMap(labels.ids, grid, labels.scheme))
    assert "not orthogonal (12.0 deg)" in refused(ct, given)
    arguments = ["segment", str(ct), "--labels", str(given), "--resample-tilt", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
def test_8_a_slice_without_rescale_is_refused(hips, tmp_path, refused, edited, tag):
    volume, labels = hips
    small = Volume(volume.values[:, :, :6], Grid((*volume.grid.shape[:2], 6), volume.grid.world_from_index))
    write_ct_dicom(tmp_path / "series", small)
    edited(tmp_path / "series" / "slice_0004.dcm", **{tag: None})
    write_labels(tmp_path / "labels.nii.gz", labels)
    line = refused(tmp_path / "series", tmp_path / "labels.nii.gz")
    assert "slice_0004" in line
    assert "escale" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hu: 0.019 * (1 + hu / 1000.0).clip(0), "attenuation"),
        (np.zeros_like, "every voxel is 0"),
        (lambda hu: (hu + 1024).clip(0, 4095), "unsigned 12 bit"),
    ],
)
def test_9_values_that_are_not_hu_are_refused(hips, tmp_path, refused, change, said):
    volume, labels = hips
    ct, given = _written(tmp_path, Volume(change(volume.values).astype(np.float32), volume.grid), labels)
    line = refused(ct, given)
    assert "values are not HU" in line
    assert said in line


def test_13_metal_is_taken_out_and_flagged(hips, tmp_path, capsys):
    volume, labels = hips
    values = volume.values.copy()
    femur = np.argwhere(labels.mask("femur_right"))
    middle = np.median(femur, axis=0).astype(int)
    nail = tuple(slice(m - 1, m + 2) for m in middle)
    values[nail] = METAL_HU + 500.0
    ct, given = _written(tmp_path, Volume(values, volume.grid), labels)
    assert main(["segment", str(ct), "--labels", str(given), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert re.search(r"femur_right: metal, \d+ mm3, taken out", said)
    assert "right side: metal; its density is not to be used" in said
    found = json.loads((tmp_path / "out" / "segmentation.json").read_text())
    assert found["metal_sides"] == ["right"]
    assert found["bones"]["femur_right"]["metal_mm3"] >= 27 * volume.grid.voxel_mm3
    from hierbmd.io.labels import read_labels

    assert not read_labels(tmp_path / "out" / "labels.nii.gz").mask("femur_right")[nail].any()


def _renamed(labels: LabelMap, *kinds: str) -> LabelMap:
    """Left and right exchanged for the bones whose names start with `kinds`."""
    ids = labels.ids.copy()
    for kind in kinds:
        for one, other in (("left", "right"), ("right", "left")):
            if f"{kind}_{one}" in labels.names_present:
                ids[labels.ids == labels.scheme[f"{kind}_{one}"]] = labels.scheme[f"{kind}_{other}"]
    return LabelMap(ids, labels.grid, labels.scheme)


@pytest.mark.parametrize("kinds", [("femur", "hip"), ("hip",), ("femur",)])
def test_17_exchanged_sides_are_refused(hips, tmp_path, refused, kinds):
    volume, labels = hips
    line = refused(*_written(tmp_path, volume, _renamed(labels, *kinds)))
    assert re.search("lies to the right of", line)
    assert "correct the file" in line


def test_17_a_mirrored_header_is_refused_and_not_flipped(hips, tmp_path, refused):
    volume, labels = hips
    grid = _on(volume.grid, np.diag([-1.0, 1.0, 1.0, 1.0]) @ volume.grid.world_from_index)
    ct, given = _written(tmp_path, Volume(volume.values, grid), LabelMap(labels.ids, grid, labels.scheme))
    assert "lies to the right of" in refused(ct, given)


def test_17_one_femur_with_the_other_sides_name_is_refused_by_its_neck(hips, tmp_path, refused):
    volume, labels = hips
    ids = np.where(labels.mask("femur_right"), labels.scheme["femur_left"], 0).astype(labels.ids.dtype)
    line = refused(*_written(tmp_path, volume, LabelMap(ids, labels.grid, labels.scheme)))
    assert "femur_left leads away from its head towards the patient's right" in line


def test_17_a_side_that_nothing_proves_is_said(hips, tmp_path, capsys):
    volume, labels = hips
    ids = np.where(labels.mask("hip_right"), labels.ids, 0)
    ct, given = _written(tmp_path, volume, LabelMap(ids, labels.grid, labels.scheme))
    assert main(["segment", str(ct), "--labels", str(given), "--out", str(tmp_path / "out")]) == 0
    assert "side not proved: hip_right" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "segmentation.json").read_text())["sides_unproved"] == ["hip_right"]


def test_22_metres_for_millimetres_are_named(hips, tmp_path, refused):
    volume, labels = hips
    grid = _on(volume.grid, np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ volume.grid.world_from_index)
    ct, given = _written(tmp_path, Volume(volume.values, grid), LabelMap(labels.ids, grid, labels.scheme))
    assert "metres" in refused(ct, given)


def test_22_a_bone_of_a_size_that_no_bone_has_is_refused(hips, tmp_path, refused):
    volume, labels = hips
    grid = _on(volume.grid, np.diag([2.5, 2.5, 2.5, 1.0]) @ volume.grid.world_from_index)
    ct, given = _written(tmp_path, Volume(volume.values, grid), LabelMap(labels.ids, grid, labels.scheme))
    line = refused(ct, given)
    assert re.search(r"has \S+ cm3, a bone", line)
    assert "is the spacing in mm" in line


def test_23_without_a_calibration_there_is_no_density_number(hips, tmp_path):
    assert main(["segment", *map(str, _labels_given(tmp_path, hips)), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "segmentation.json").read_text()
    assert "Research use only" in text
    assert not re.search("bmd|g_cm2|mg_cm3|t_score", text)


def _labels_given(folder: Path, hips) -> list[object]:
    ct, given = _written(folder, *hips)
    return [ct, "--labels", given]
