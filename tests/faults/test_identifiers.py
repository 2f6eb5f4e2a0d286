"""FAULTS 33: with a salt no file of a data set holds a patient's name, id, or the name of one of their files."""

from __future__ import annotations

import csv
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.cohort import PrepareOptions, prepare
from hierbmd.data.halves import HalfFrame
from hierbmd.data.pseudonyms import pseudonym
from hierbmd.data.radiograph import Radiograph
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import BadConfig
from hierbmd.evaluation.robustness import RadiographFiles
from hierbmd.geometry import Camera, Placement, Side, View
from hierbmd.io.calibration_file import write_calibration
from hierbmd.io.dataset import read_dataset
from hierbmd.io.dicom_write import DicomOptions, write_radiograph_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.salt import made_salt, read_salt
from hierbmd.pairing.options import PairingOptions, RowOptions

CAMERA = Camera(1150.0, (128, 128), (3.2, 3.2))
NAMES = ("Meierhuber", "Zenobia", "4711", "Wald")
"""What stands in the manifest's ids, paths and unknown columns, and in the DICOM header."""


@pytest.fixture(scope="module")
def manifest(coarse_patient: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient who can be prepared and one whose radiograph cannot be read, with names wherever names can be."""
    folder = tmp_path_factory.mktemp("cohort")
    write_volume(folder / "Meierhuber_ct.nii.gz", coarse_patient.volume)
    write_labels(folder / "labels_4711.nii.gz", coarse_patient.labels)
    write_calibration(folder / "line.json", coarse_patient.calibration)
    pose = Placement(View.AP, coarse_patient.volume.grid.centre_world_mm, 1000.0).camera_from_world()
    image = make_projector(make_scene(coarse_patient.volume, quantity="attenuation")).image(CAMERA, pose)[0]
    radiograph = Radiograph(image, CAMERA.pixel_mm, CAMERA.sdd_mm, 1000.0, View.AP, Side.BOTH)
    write_radiograph_dicom(folder / "Zenobia.dcm", radiograph, DicomOptions(subject="Meierhuber^Zenobia"))
    (folder / "Zenobia_2.dcm").write_bytes(b"no radiograph")
    rows = [
        ["Meierhuber.4711", "Meierhuber_ct.nii.gz", "labels_4711.nii.gz", name, "line.json", "train", "Wald"]
        for name in ("Zenobia.dcm", "Zenobia_2.dcm")
    ]
    with (folder / "manifest.csv").open("w", newline="") as stream:
        header = ["subject", "ct", "labels", "radiograph", "calibration", "split", "street"]
        csv.writer(stream).writerows([header, *rows])
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def prepared(manifest: Path, tmp_path_factory: pytest.TempPathFactory, true_poses: Any) -> tuple[Path, Path]:
    """The data set and the salt of it."""
    out, salt = tmp_path_factory.mktemp("out") / "dataset", manifest.parent / "salt"
    row = RowOptions(pairing=PairingOptions(frame=HalfFrame((64, 128), (3.2, 3.2))))
    prepare(manifest, out, PrepareOptions(row=row, salt=salt), registrar=true_poses)
    return out, salt


def test_no_file_holds_a_name(prepared: tuple[Path, Path]) -> None:
    out, _ = prepared
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".npz", ".png", ".csv", ".json", ".html"}
    for path in files:
        text = str(path.relative_to(out)) + path.read_bytes().decode("latin-1")
        for name in NAMES:
            assert name not in text, path.name


def test_a_refusal_says_which_column_and_line_in_place_of_a_file(prepared: tuple[Path, Path]) -> None:
    with (prepared[0] / "refusals.csv").open() as stream:
        (row,) = list(csv.DictReader(stream))
    assert "the radiograph" in row["reason"]
    assert row["line"] == "3"


def test_the_hash_is_salted_and_finds_the_radiographs_again(prepared: tuple[Path, Path], manifest: Path) -> None:
    out, path = prepared
    salt, records = read_salt(path), read_dataset(out).records
    assert {record.subject for record in records} == {pseudonym("Meierhuber.4711", salt)}
    assert pseudonym("Meierhuber.4711", b"another" * 8) != records[0].subject
    assert pseudonym("Meierhuber.4712", salt) != records[0].subject
    files = RadiographFiles.of_manifest(manifest, salt).paths
    assert files[records[0].subject, records[0].radiograph].name == "Zenobia.dcm"
    assert (records[0].subject, records[0].radiograph) not in RadiographFiles.of_manifest(manifest).paths


def test_the_salt_is_made_once_for_its_owner_and_never_among_the_results(tmp_path: Path) -> None:
    first = made_salt(tmp_path / "keys" / "salt", not_in=tmp_path / "out")
    assert made_salt(tmp_path / "keys" / "salt", not_in=tmp_path / "out") == first
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "keys" / "salt").stat().st_mode) == 0o600
    with pytest.raises(BadConfig, match="where the results go"):
        made_salt(tmp_path / "out" / "salt", not_in=tmp_path / "out")
    (tmp_path / "word").write_text("pepper")
    for path in (tmp_path / "word", tmp_path / "none"):
        with pytest.raises(BadConfig, match="no salt of 32 bytes"):
            read_salt(path)
    assert not np.array_equal(list(first), list(made_salt(tmp_path / "other", not_in=tmp_path / "out")))
