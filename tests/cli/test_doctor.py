"""`hierbmd doctor` tells what files and machines are, and goes on after a file that it refuses."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from hierbmd.cli.main import main
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid, Side, View
from hierbmd.io.dicom_write import write_ct_dicom, write_radiograph_dicom
from hierbmd.io.environment import inspect_environment
from hierbmd.io.image import write_labels, write_mha_image, write_volume


def nailed_ct(shape: tuple[int, int, int] = (20, 18, 16)) -> tuple[Volume, LabelMap]:
    """Soft tissue with padding on one side and a metal nail in the left femur."""
    values = np.random.default_rng(0).normal(40, 20, shape).astype(np.float32)
    values[:4] = -2048.0
    values[8:12, 8:12, 2:14] = 3071.0
    ids = np.zeros(shape, np.uint8)
    ids[7:13, 7:13, 1:15] = TOTALSEGMENTATOR_V2["femur_left"]
    ids[14:18, 7:13, 1:15] = TOTALSEGMENTATOR_V2["hip_left"]
    grid = Grid(shape, np.diag([2.0, 2.0, 3.0, 1.0]))
    return Volume(values, grid), LabelMap(ids, grid, TOTALSEGMENTATOR_V2)


def told(capsys: pytest.CaptureFixture[str], *files: object, status: int = 0) -> list[dict]:
    assert main(["doctor", *map(str, files), "--json"]) == status
    return json.loads(capsys.readouterr().out)["files"]


def test_a_ct_with_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ct, labels = nailed_ct()
    write_volume(tmp_path / "ct.nii.gz", ct)
    write_labels(tmp_path / "labels.mha", labels)
    first, second = told(capsys, tmp_path / "ct.nii.gz", tmp_path / "labels.mha")
    facts = first["facts"]
    assert (first["kind"], second["kind"]) == ("CT", "label map")
    assert facts["size"] == [20, 18, 16]
    assert (facts["spacing_mm"], facts["spacing_source"]) == ([2.0, 2.0, 3.0], "sform = qform")
    assert facts["axis_codes"] == "LPS"
    assert facts["padding"] == {"hu": -2048.0, "share": 0.2}
    assert facts["hu_range"][1] == 3071.0
    assert facts["metal"]["voxels_by_label"] == {"femur_left": 4 * 4 * 12}
    assert facts["metal"]["ml"] == pytest.approx(4 * 4 * 12 * 12 / 1000)
    assert facts["metal"]["saturated_voxels"] == 192
    assert any("calibration" in line for line in first["missing"])
    assert not any("label map" in line for line in first["missing"])
    assert set(second["facts"]["structures_ml"]) == {"femur_left", "hip_left"}
    assert second["missing"] == ["bones: no femur_right, hip_right"]


def test_a_ct_alone_says_that_labels_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ct, labels = nailed_ct()
    write_ct_dicom(tmp_path / "series", ct)
    elsewhere = LabelMap(labels.ids, Grid(labels.grid.shape, np.diag([2.0, 2, 3, 1]) + np.eye(4, k=3) * 500))
    write_labels(tmp_path / "elsewhere.nii.gz", elsewhere)
    for files in ([tmp_path / "series"], [tmp_path / "series", tmp_path / "elsewhere.nii.gz"]):
        report = told(capsys, *files)[0]
        assert any(line.startswith("label map") for line in report["missing"])
        assert report["facts"]["slices"] == 16
        assert report["facts"]["transfer_syntax"] == "Explicit VR Little Endian"
        assert "voxels_by_label" not in report["facts"]["metal"] or not report["facts"]["metal"]["voxels_by_label"]
    assert report["facts"]["labels"] == {str(tmp_path / "elsewhere.nii.gz"): "does not overlap its CT"}


def test_a_refused_file_has_its_reason_and_the_others_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    write_volume(tmp_path / "ct.nii.gz", nailed_ct()[0])
    files = (tmp_path / "broken.nii.gz", tmp_path / "ct.nii.gz", tmp_path / "missing.dcm")
    reports = told(capsys, *files, status=1)
    assert [report["kind"] for report in reports] == ["refused", "CT", "refused"]
    assert reports[0]["error"] == "UnreadableFile"
    assert "\n" not in reports[0]["refusal"]
    assert main(["doctor", *map(str, files)]) == 1
    text = capsys.readouterr().out
    assert f"{files[0]}: refused\n  not a readable CT" in text
    assert f"{files[1]}: CT\n" in text


def test_a_radiograph_and_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    write_radiograph_dicom(tmp_path / "x.dcm", Radiograph(pixels, (0.2, 0.3), 1150.0, None, View.AP, Side.BOTH))
    Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / "x.png")
    write_mha_image(tmp_path / "drr.mha", pixels, pixel_mm=(1, 1), metadata={"quantity": "density"})
    film, picture, drr = told(capsys, tmp_path / "x.dcm", tmp_path / "x.png", tmp_path / "drr.mha")
    assert film["missing"] == []
    assert film["facts"]["pixel_mm"] == [0.2, 0.3]
    assert film["facts"]["pixel_mm_source"] == "ImagerPixelSpacing"
    assert (film["facts"]["polarity"], film["facts"]["bits_stored"]) == ("bright bone", 12)
    assert film["facts"]["hanging"] == "as the AP camera sees it"
    assert [line.split(":")[0] for line in picture["missing"]] == [
        "polarity",
        "pixel size on the detector",
        "source-detector distance",
        "view",
        "side",
    ]
    assert (drr["kind"], drr["facts"]["polarity_source"]) == ("radiograph", "quantity density")


def test_no_name_of_a_patient_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_radiograph_dicom(tmp_path / "x.dcm", Radiograph(np.eye(9, dtype=np.float32)))
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "MRN-12345"
    dataset.save_as(tmp_path / "x.dcm")
    assert main(["doctor", str(tmp_path / "x.dcm")]) == 0
    out = capsys.readouterr()
    assert "Doe" not in out.out + out.err
    assert "MRN" not in out.out + out.err


def test_without_files_it_tells_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    environment = json.loads(capsys.readouterr().out)["environment"]
    versions = {package["name"]: package["version"] for package in environment["packages"]}
    assert versions["pydicom"] == importlib.metadata.version("pydicom")
    assert {package["extra"] for package in environment["packages"]} >= {"", "elastix", "dicom"}
    assert environment["decoders"]["JPEG 2000"] is True
    assert environment["disk_free_gib"] > 0
    assert main(["doctor"]) == 0
    assert "itk-elastix" in capsys.readouterr().out


def test_a_broken_torchvision_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    real_import = importlib.import_module

    def broken(name: str, package: str | None = None) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand more")
        return real_import(name, package)

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.26" if name == "torchvision" else version(name))
    monkeypatch.setattr(importlib, "import_module", broken)
    problems = [line for line in inspect_environment().problems if "torchvision" in line]
    assert problems == [
        "torchvision 0.26 is broken (operator torchvision::nms does not exist): pip uninstall torchvision"
    ]


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom hierbmd.cli.main import main\n"
        "try:\n    main(['doctor', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'SimpleITK', 'pydicom', 'nibabel', 'lightning', 'monai', 'scipy', 'PIL'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = os.times()
    assert after.children_user - before.children_user < 0.5


def test_the_real_files(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(shared_data / "torso-ct" / "example_ct_dicom_20slices.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    torso = shared_data / "torso-ct"
    ct, labels, bodies, series, chest, shin, localizer = told(
        capsys,
        torso / "example_ct.nii.gz",
        torso / "example_ct_totalseg_labels.nii.gz",
        torso / "totalseg_vertebrae_body.nii.gz",
        tmp_path,
        shared_data / "radiographs" / "RG1_J2KR.dcm",
        shared_data / "radiographs" / "RG3_J2KR.dcm",
        shared_data / "head-phantom-pair" / "surview_lateral_localizer.dcm",
    )
    assert ct["facts"]["metal"]["voxels_by_label"] == {"femur_left": 273}
    assert len(labels["facts"]["structures_ml"]) == 61
    assert set(bodies["facts"]["structures_ml"]) == {"vertebrae_body", "intervertebral_discs"}
    assert series["facts"]["padding"]["hu"] == -1024.0
    assert (chest["facts"]["polarity_source"], chest["facts"]["view"]) == ("MONOCHROME1", "PA")
    assert chest["facts"]["notes"] == ["PixelSpacing is 0 x 0, so it says nothing"]
    assert (shin["facts"]["side"], shin["facts"]["bits_stored"]) == ("right", 10)
    assert localizer["facts"]["sdd_mm"] == 1040.0


@pytest.mark.slow
def test_the_real_pelvis_series_has_its_padding(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(shared_data / "pelvis-ct" / "dicom_tcia_manifest.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    facts = told(capsys, tmp_path)[0]["facts"]
    assert facts["padding"] == {"hu": -2048.0, "share": 0.294}
    assert (facts["slices"], facts["spacing_mm"]) == (160, [1.03, 1.03, 3.0])
