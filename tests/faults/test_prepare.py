"""FAULTS 7 to 9, 13, 17, 22 and 23 as the user of `prepare` meets them: a row of refusals.csv each, and no pair."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from hierbmd import errors
from hierbmd.cli.main import main
from hierbmd.data.phantoms import phantom_of_name, phantom_to_json
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid, Side, View
from hierbmd.io.atomic import write_json
from hierbmd.io.dicom_write import write_ct_dicom, write_radiograph_dicom
from hierbmd.io.image import write_labels, write_volume

LINE = {"slope": 0.8, "intercept": 0.0, "material": "HA"}


@pytest.fixture
def prepared(hips, tmp_path, capsys):
    """`prepared(name=..., ...)` runs a manifest of one row whose files are sound but for those that are given."""
    volume, labels = hips
    write_volume(tmp_path / "ct.nii.gz", volume)
    write_labels(tmp_path / "labels.nii.gz", labels)
    write_json(tmp_path / "line.json", LINE)
    image = np.random.default_rng(0).random((64, 64), np.float32)
    write_radiograph_dicom(tmp_path / "x.dcm", Radiograph(image, (6.4, 6.4), 1150.0, 1000.0, View.AP, Side.BOTH))

    def run(*flags: str, **cells: str) -> list[dict[str, str]]:
        sound = {"ct": "ct.nii.gz", "labels": "labels.nii.gz", "radiograph": "x.dcm", "calibration": "line.json"}
        row = {"subject": "P1", "pose": "0 0 0 0 0 0", **sound, **cells}
        text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
        (tmp_path / "manifest.csv").write_text(text)
        out = tmp_path / "out"
        assert main(["prepare", str(tmp_path / "manifest.csv"), "--out", str(out), *flags]) == 1
        said = capsys.readouterr().err.splitlines()
        assert sum(line.startswith("hierbmd prepare: ") for line in said) == 1
        assert not (out / "dataset.json").exists()
        assert not list(out.glob("pairs/*"))
        with (out / "refusals.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    return run


def _refused(rows: list[dict[str, str]], stage: str, kind: str, *words: str) -> None:
    assert rows
    for row in rows:
        assert (row["stage"], row["error_class"], row["line"]) == (stage, kind, "2")
        for word in words:
            assert word in row["reason"]


def _sheared(grid: Grid) -> Grid:
    matrix = grid.world_from_index.copy()
    matrix[1, 2] = matrix[2, 2] * np.tan(np.radians(12))
    return Grid(grid.shape, matrix)


def test_7_a_tilted_ct_is_refused(hips, tmp_path, prepared):
    write_volume(tmp_path / "tilted.nii.gz", Volume(hips[0].values, _sheared(hips[0].grid)))
    _refused(prepared(ct="tilted.nii.gz"), "read", "NotOrthogonal", "not orthogonal (12.0 deg)")


def test_8_a_slice_without_rescale_is_refused(hips, tmp_path, prepared, edited):
    grid = Grid((*hips[0].grid.shape[:2], 6), hips[0].grid.world_from_index)
    write_ct_dicom(tmp_path / "series", Volume(hips[0].values[:, :, :6], grid))
    edited(tmp_path / "series" / "slice_0003.dcm", RescaleSlope=None)
    _refused(prepared(ct="series"), "read", "RescaleMissing", "slice_0003")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda hu: 0.019 * (1 + hu / 1000.0).clip(0), "attenuation"),
        (np.zeros_like, "every voxel is 0"),
        (lambda hu: (hu + 1024).clip(0, 4095), "unsigned 12 bit"),
    ],
)
def test_9_values_that_are_not_hu_are_refused(hips, tmp_path, prepared, change, said):
    write_volume(tmp_path / "other.nii.gz", Volume(change(hips[0].values).astype(np.float32), hips[0].grid))
    _refused(prepared(ct="other.nii.gz"), "read", "NotHounsfield", "values are not HU", said)


def test_13_metal_in_both_hips_refuses_both(hips, tmp_path, prepared):
    values = hips[0].values.copy()
    for side in ("left", "right"):
        middle = np.median(np.argwhere(hips[1].mask(f"femur_{side}")), axis=0).astype(int)
        values[tuple(slice(m - 1, m + 2) for m in middle)] = 3500.0
    write_volume(tmp_path / "metal.nii.gz", Volume(values, hips[0].grid))
    rows = prepared(ct="metal.nii.gz")
    assert {row["side"] for row in rows} == {"left", "right"}
    _refused(rows, "measure", "BadRegion", "metal in the")


def test_17_exchanged_sides_are_refused_and_never_flipped(hips, tmp_path, prepared):
    labels = hips[1]
    ids = labels.ids.copy()
    for name in labels.names_present:
        for one, other in (("left", "right"), ("right", "left")):
            if name.endswith(f"_{one}"):
                ids[labels.mask(name)] = labels.scheme[name.replace(one, other)]
    write_labels(tmp_path / "exchanged.nii.gz", LabelMap(ids, labels.grid, labels.scheme))
    rows = prepared(labels="exchanged.nii.gz")
    assert {row["side"] for row in rows} == {"left", "right"}
    _refused(rows, "measure", "SideConflict")


def test_22_a_line_to_g_cm3_is_refused_and_its_unit_named(tmp_path, prepared):
    write_json(tmp_path / "grams.json", {**LINE, "slope": 0.0008})
    _refused(prepared(calibration="grams.json"), "read", "SuspectedUnit", "multiply by 1000")


def test_22_a_ct_in_metres_is_refused(hips, tmp_path, prepared):
    grid = Grid(hips[0].grid.shape, np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ hips[0].grid.world_from_index)
    write_volume(tmp_path / "metres.nii.gz", Volume(hips[0].values, grid))
    _refused(prepared(ct="metres.nii.gz"), "read", "SuspectedUnit", "metres")


def test_23_a_ct_without_calibration_gives_no_number(prepared):
    _refused(prepared(calibration=""), "calibrate", "Uncalibrated", "uncalibrated")


def test_23_a_phantom_that_is_not_in_the_scan_gives_no_number(prepared):
    """Rods may be seen in the patient's own bones: whatever is said of them, it is that there is no calibration."""
    rows = prepared(calibration="B-MAS200")
    kind = rows[0]["error_class"]
    assert issubclass(getattr(errors, kind), errors.Uncalibrated)
    _refused(rows, "calibrate", kind, "B-MAS200")


def test_23_a_rod_table_of_two_materials_is_refused(tmp_path: Path, prepared):
    table = phantom_to_json(phantom_of_name("B-MAS200"))
    table["rods"] = [{**rod, "water_mg_cm3": 1000.0} for rod in table["rods"]]
    write_json(tmp_path / "rods.json", table)
    _refused(prepared(calibration="rods.json"), "read", "BadConfig", "never mixed")
