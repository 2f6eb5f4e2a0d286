"""Lossy DICOM radiographs: what comes back, and what the header admits."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import Volume
from hierbmd.errors import BadConfig
from hierbmd.geometry import Grid, Side, View
from hierbmd.io.dicom_acquisition import AcquisitionTags
from hierbmd.io.dicom_write import DicomOptions, write_ct_dicom, write_radiograph_dicom
from hierbmd.io.radiograph import read_radiograph


@pytest.fixture(scope="module")
def radiograph():
    rows, columns = np.indices((200, 181))
    smooth = 2000 + 1500 * np.sin(rows / 17.0) * np.cos(columns / 23.0)
    noise = np.random.default_rng(0).normal(0, 40, smooth.shape)
    return Radiograph(
        np.clip(smooth + noise, 0, 4095).astype(np.float32), (0.4, 0.4), 1150.0, 1000.0, View.AP, Side.LEFT
    )


def _error(tmp_path, radiograph, **options):
    options = {"bits_stored": 12, "value_range": (0.0, 4095.0), **options}
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph, DicomOptions(**options))
    back = read_radiograph(tmp_path / "x.dcm").pixels * (4095.0 / (2 ** options["bits_stored"] - 1))
    return float(np.sqrt(np.mean((back - radiograph.pixels) ** 2))), pydicom.dcmread(tmp_path / "x.dcm")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_jpeg_loses_more_at_lower_quality_and_says_so(tmp_path, radiograph, photometric):
    errors, ratios = [], []
    for quality in (95, 75, 30):
        error, dataset = _error(
            tmp_path, radiograph, compression="jpeg", bits_stored=8, jpeg_quality=quality, photometric=photometric
        )
        assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
        assert dataset.LossyImageCompression == "01"
        assert dataset.LossyImageCompressionMethod == "ISO_10918_1"
        errors.append(error)
        ratios.append(float(dataset.LossyImageCompressionRatio))
    assert 4.0 < errors[0] < errors[1] < errors[2] < 60.0
    assert 1.5 < ratios[0] < ratios[1] < ratios[2]
    size = len(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    assert ratios[2] == pytest.approx(200 * 181 / size, rel=0.01)


def test_jpeg_2000_keeps_its_depth_and_loses_more_at_higher_ratio(tmp_path, radiograph):
    errors = []
    for ratio in (4.0, 10.0, 30.0):
        error, dataset = _error(tmp_path, radiograph, compression="jpeg2000-lossy", jpeg2000_ratio=ratio)
        assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEG2000
        assert dataset.BitsStored == 12
        assert dataset.LossyImageCompressionMethod == "ISO_15444_1"
        assert float(dataset.LossyImageCompressionRatio) == pytest.approx(ratio, rel=0.5)
        errors.append(error)
    assert errors[0] < errors[1] < errors[2] < 60.0


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000"])
def test_without_loss_nothing_is_admitted_and_nothing_lost(tmp_path, radiograph, compression):
    error, dataset = _error(tmp_path, radiograph, compression=compression)
    assert error < 0.3
    assert dataset.LossyImageCompression == "00"
    assert "LossyImageCompressionRatio" not in dataset


def test_more_than_8_bits_of_baseline_jpeg_and_a_lossy_ct_are_refused(tmp_path, radiograph):
    with pytest.raises(BadConfig, match="8 bits"):
        write_radiograph_dicom(tmp_path / "x.dcm", radiograph, DicomOptions(compression="jpeg", bits_stored=12))
    assert not (tmp_path / "x.dcm").exists()
    ct = Volume(np.zeros((4, 4, 2), np.float32), Grid((4, 4, 2), np.eye(4)))
    with pytest.raises(BadConfig, match="loss"):
        write_ct_dicom(tmp_path / "ct", ct, DicomOptions(compression="jpeg2000-lossy"))


def test_the_exposure_goes_to_its_tags_and_what_is_not_known_stays_out(tmp_path, radiograph):
    corners = ((5, 6), (5, 170), (190, 170), (190, 6))
    tags = AcquisitionTags(81.26, "ALUMINUM\\COPPER", 1.0, False, 500.0, 250.0, corners, corners)
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph, DicomOptions(), tags)
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    assert float(dataset.KVP) == pytest.approx(81.3)
    assert list(dataset.FilterMaterial) == ["ALUMINUM", "COPPER"]
    assert dataset.Grid == "NONE"
    assert float(dataset.DeviationIndex) == pytest.approx(3.01)
    assert list(dataset.VerticesOfThePolygonalShutter) == [5, 6, 5, 170, 190, 170, 190, 6]
    write_radiograph_dicom(tmp_path / "y.dcm", radiograph, DicomOptions())
    for tag in ("KVP", "Grid", "ExposureIndex", "CollimatorShape", "ShutterShape"):
        assert tag not in pydicom.dcmread(tmp_path / "y.dcm")
