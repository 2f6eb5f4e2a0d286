"""Faults of DICOM series: each is refused in one line of its own, before memory is taken."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hierbmd.data.volume import Volume
from hierbmd.errors import (
    BadAffine,
    MissingExtra,
    MixedSeries,
    NotHounsfield,
    OversizedFile,
    RescaleMissing,
    SliceGap,
    UnreadableFile,
)
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import DicomOptions, write_ct_dicom

# 1: truncated, empty or not an image


@pytest.mark.parametrize("keep", [0, 100, 200, 1000])
def test_a_truncated_slice(series: Path, keep: int) -> None:
    path = series / "slice_0003.dcm"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((UnreadableFile, OversizedFile), match=r"^not a readable CT: .*slice_0003"):
        read_volume(series)


def test_a_damaged_slice_is_not_passed_over(series: Path) -> None:
    (series / "slice_0007.dcm").write_bytes(b"\0" * 3000)  # the last one: no gap would show
    with pytest.raises(UnreadableFile, match="slice_0007"):
        read_volume(series)


# 2: a header that claims more voxels than the file holds


def test_slices_that_claim_more_than_they_hold(series: Path, edited: Callable[..., Path]) -> None:
    for path in series.iterdir():
        edited(path, Rows=60_000, Columns=60_000)
    with pytest.raises(OversizedFile, match="claims"):
        read_volume(series, max_gib=1e6)


# 3: a compressed file that expands past the limit


def test_a_deflated_slice_that_expands_past_the_limit(series: Path) -> None:
    path = series / "slice_0000.dcm"
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    content = path.read_bytes()
    start = 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    bomb = zlib.compressobj(wbits=-15)
    path.write_bytes(content[:start] + bomb.compress(b"\0" * 30_000_000) + bomb.flush())
    with pytest.raises(OversizedFile, match=r"expands beyond the limit of 0\.01 GiB"):
        read_volume(series, max_gib=0.01)


def test_a_series_that_expands_past_the_limit(tmp_path: Path) -> None:
    volume = Volume(np.full((64, 64, 8), -1000, np.float32), Grid((64, 64, 8), np.eye(4)))
    write_ct_dicom(tmp_path / "ct", volume, DicomOptions(compression="rle"))
    with pytest.raises(OversizedFile, match="expands beyond the limit"):
        read_volume(tmp_path / "ct", max_gib=1e-4)


# 5: a missing slice


@pytest.mark.parametrize("missing", [1, 3, 6])
def test_a_missing_slice_is_placed(series: Path, missing: int) -> None:
    (series / f"slice_{missing:04d}.dcm").unlink()
    with pytest.raises(SliceGap, match=rf"gap at z = {2 * missing}\.00 mm"):
        read_volume(series)


def test_a_gap_in_a_series_of_three(series: Path) -> None:
    for k in (1, 4, 5, 6, 7):
        (series / f"slice_{k:04d}.dcm").unlink()
    with pytest.raises(SliceGap, match=r"gap at z = 2\.00 mm"):
        read_volume(series)


# 6: duplicates and mixed series


def test_a_slice_twice(series: Path) -> None:
    shutil.copy(series / "slice_0002.dcm", series / "copy.dcm")
    with pytest.raises(MixedSeries, match=r"twice at z = 4\.00 mm.*(copy|slice_0002)"):
        read_volume(series)


def test_two_series_in_one_folder_are_both_named(series: Path, tmp_path: Path, sound_ct: Volume) -> None:
    write_ct_dicom(tmp_path / "other", sound_ct)
    uids = [str(pydicom.dcmread(f / "slice_0000.dcm").SeriesInstanceUID) for f in (series, tmp_path / "other")]
    shutil.copy(tmp_path / "other" / "slice_0000.dcm", series / "zz.dcm")
    with pytest.raises(MixedSeries) as refusal:
        read_volume(series)
    assert all(uid in str(refusal.value) for uid in uids)


@pytest.mark.parametrize("tags", [{"Modality": "MR"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}])
def test_a_localizer_or_another_modality_beside_the_slices(
    series: Path, tags: dict[str, object], edited: Callable[..., Path]
) -> None:
    shutil.copy(series / "slice_0000.dcm", series / "scout.dcm")
    edited(series / "scout.dcm", SeriesInstanceUID="1.2.3.4", **tags)
    with pytest.raises(MixedSeries, match=r"1\.2\.3\.4"):
        read_volume(series)


def test_two_orientations_under_one_uid(series: Path, edited: Callable[..., Path]) -> None:
    edited(series / "slice_0003.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    with pytest.raises(MixedSeries, match="orientation"):
        read_volume(series)


# 8: rescale


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
def test_a_slice_without_rescale(series: Path, tag: str, edited: Callable[..., Path]) -> None:
    edited(series / "slice_0004.dcm", **{tag: None})
    with pytest.raises(RescaleMissing, match="slice_0004"):
        read_volume(series)


def test_a_rescale_to_other_units(series: Path, edited: Callable[..., Path]) -> None:
    edited(series / "slice_0004.dcm", RescaleType="OD")
    with pytest.raises(NotHounsfield, match="OD"):
        read_volume(series)


# 11: affines


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": [0, 1]}, {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, {"ImagePositionPatient": None}]
)
def test_slices_that_have_no_place(series: Path, tags: dict[str, object], edited: Callable[..., Path]) -> None:
    edited(series / "slice_0001.dcm", **tags)
    with pytest.raises(BadAffine, match="slice_0001"):
        read_volume(series)


def test_a_slice_beside_the_line_of_the_others(series: Path, edited: Callable[..., Path]) -> None:
    edited(series / "slice_0003.dcm", ImagePositionPatient=[5, 0, 6])
    with pytest.raises(BadAffine, match="straight line"):
        read_volume(series)


# decoders that are not there, headers that point elsewhere


def test_a_missing_decoder_is_named(series: Path) -> None:
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
        dataset.save_as(path)
    with pytest.raises(MissingExtra, match="pylibjpeg-libjpeg"):
        read_volume(series)


# what is an image, but no CT volume


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Modality": "MR"}, "modality MR"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer is a projection"),
        ({"SamplesPerPixel": 3}, "colour"),
    ],
)
def test_dicom_images_that_are_no_ct_slices(
    series: Path, tags: dict[str, object], said: str, edited: Callable[..., Path]
) -> None:
    for path in series.iterdir():
        edited(path, **tags)
    with pytest.raises(UnreadableFile, match=said):
        read_volume(series)


def test_one_slice_is_no_volume(series: Path) -> None:
    for path in sorted(series.iterdir())[1:]:
        path.unlink()
    with pytest.raises(UnreadableFile, match="1 CT slices"):
        read_volume(series)
    with pytest.raises(UnreadableFile, match="DICOM folder"):
        read_volume(series / "slice_0000.dcm")
