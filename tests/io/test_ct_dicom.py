"""CT series in and out of DICOM folders: any file order, axis order, rescale and transfer syntax."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.data.volume import Volume
from hierbmd.errors import NotOrthogonal, OutputUnwritable
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import CtAcquisition, DicomOptions, write_ct_dicom

SHAPE = (40, 36, 4)


def volume(angles_deg: tuple[float, float, float] = (0, 0, 0), shape: tuple[int, int, int] = SHAPE) -> Volume:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() * [0.8, 1.2, 2.5]
    matrix[:3, 3] = [-31.5, 12.25, 100.125]
    values = np.random.default_rng(4).integers(-1024, 3000, shape).astype(np.float32)
    return Volume(values, Grid(shape, matrix))


def write_shuffled(folder: Path, ct: Volume, **options: object) -> Path:
    """A series whose file names say nothing about the order."""
    write_ct_dicom(folder, ct, DicomOptions(**options))
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{(k * 7 + 3) % 11:03d}")
    return folder


def edit_slices(folder: Path, edit: object) -> None:
    for k, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        edit(k, dataset)
        dataset.save_as(path)


@pytest.mark.parametrize("angles_deg", [(0, 0, 0), (20, -35, 50), (90, 0, 0), (0, 90, 0)])
def test_series_round_trips_in_any_orientation_and_file_order(tmp_path: Path, angles_deg: tuple) -> None:
    ct = volume(angles_deg)
    back = read_volume(write_shuffled(tmp_path / "ct", ct))
    np.testing.assert_array_equal(back.values, ct.values)
    np.testing.assert_allclose(back.grid.world_from_index, ct.grid.world_from_index, atol=1e-6)


def test_a_left_handed_volume_keeps_every_voxel_in_its_place(tmp_path: Path) -> None:
    ct = volume()
    flipped = Volume(ct.values, Grid(SHAPE, ct.grid.world_from_index @ np.diag([-1.0, 1, 1, 1])))
    back = read_volume(write_shuffled(tmp_path / "ct", flipped))
    index = np.linalg.inv(back.grid.world_from_index) @ flipped.grid.world_from_index @ [3, 5, 1, 1]
    i, j, k = np.rint(index[:3]).astype(int)
    assert back.values[i, j, k] == ct.values[3, 5, 1]


@pytest.mark.parametrize("compression", ["rle", "jpeg2000"])
def test_compressed_series_read_alike(tmp_path: Path, compression: str) -> None:
    ct = volume()
    np.testing.assert_array_equal(
        read_volume(write_shuffled(tmp_path / "ct", ct, compression=compression)).values, ct.values
    )


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"])
def test_jpeg_ls_deflated_and_big_endian_series_read_alike(tmp_path: Path, syntax: str) -> None:
    ct = volume()
    write_ct_dicom(tmp_path / "ct", ct)

    def repack(_: int, dataset: pydicom.Dataset) -> None:
        if syntax.endswith(".80"):
            dataset.compress(syntax, generate_instance_uid=False)
            return
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        if syntax.endswith(".2.2"):
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()

    for path in sorted((tmp_path / "ct").iterdir()):
        dataset = pydicom.dcmread(path)
        _ = dataset.to_json_dict()  # elements are decoded before the byte order changes
        repack(0, dataset)
        endian = {"implicit_vr": False, "little_endian": False} if syntax.endswith(".2.2") else {}
        pydicom.dcmwrite(path, dataset, **endian)
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").values, ct.values)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    write_ct_dicom(tmp_path / "ct", volume())
    plain = read_volume(tmp_path / "ct").values

    def edit(k: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + k), str(-1024 * (1 + k))

    edit_slices(tmp_path / "ct", edit)
    np.testing.assert_allclose(read_volume(tmp_path / "ct").values, plain * np.arange(1, 5), atol=1e-2)


def test_files_that_are_clearly_no_slices_are_passed_over(tmp_path: Path) -> None:
    write_ct_dicom(tmp_path / "ct", volume())
    for name in ("DICOMDIR", "metadata.csv", "readme.txt", ".DS_Store", "LICENSE"):
        (tmp_path / "ct" / name).write_text("not a slice")
    report = pydicom.dcmread(tmp_path / "ct" / "slice_0000.dcm")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.Modality, report.SeriesInstanceUID = "SR", "1.2.3"
    report.save_as(tmp_path / "ct" / "report.dcm")
    assert read_volume(tmp_path / "ct").grid.shape == SHAPE


def test_a_folder_with_other_things_is_not_overwritten(tmp_path: Path) -> None:
    write_ct_dicom(tmp_path / "ct", volume())
    write_ct_dicom(tmp_path / "ct", volume(shape=(40, 36, 3)))
    assert len(list((tmp_path / "ct").iterdir())) == 3
    (tmp_path / "ct" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputUnwritable, match="something else"):
        write_ct_dicom(tmp_path / "ct", volume())
    assert (tmp_path / "ct" / "thesis.txt").read_text() == "mine"


def test_the_real_torso_series_reads(shared_data: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_data / "torso-ct" / "example_ct_dicom_20slices.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    ct = read_volume(tmp_path)
    assert ct.grid.shape == (512, 512, 20)
    assert ct.grid.axis_codes == "LPS"
    np.testing.assert_allclose(ct.grid.spacing_mm, [0.9765625, 0.9765625, 2.0])
    assert ct.values.min() == -1024.0
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_the_real_pelvis_series_agrees_with_its_nifti_crop(shared_data: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_data / "pelvis-ct" / "dicom_tcia_manifest.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    series = read_volume(tmp_path)
    crop = read_volume(shared_data / "pelvis-ct" / "pelvis_hips_crop_hu.nii.gz")
    index = series.grid.index_from_world @ crop.grid.world_from_index
    np.testing.assert_allclose(index[:3, :3], np.eye(3), atol=1e-4)
    low = np.rint(index[:3, 3]).astype(int)
    np.testing.assert_allclose(index[:3, 3], low, atol=1e-2)
    i, j, k = (slice(a, a + n) for a, n in zip(low, crop.grid.shape, strict=True))
    np.testing.assert_array_equal(np.maximum(series.values[i, j, k], -1024), crop.values)
    shutil.rmtree(tmp_path)


def test_a_write_that_fails_leaves_the_old_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct_dicom(tmp_path / "ct", volume())
    before = {path.name: path.read_bytes() for path in (tmp_path / "ct").iterdir()}
    saved = []

    def disk_full(dataset: pydicom.Dataset, path: Path, options: DicomOptions) -> None:
        saved.append(path)
        path.write_bytes(b"half")
        if len(saved) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("hierbmd.io.dicom_write._save", disk_full)
    with pytest.raises(OutputUnwritable, match="No space left"):
        write_ct_dicom(tmp_path / "ct", volume())
    assert {path.name: path.read_bytes() for path in (tmp_path / "ct").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]


def test_rows_and_columns_that_are_not_at_right_angles(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    with pytest.raises(NotOrthogonal):
        write_ct_dicom(tmp_path / "ct", Volume(volume().values, Grid(SHAPE, sheared)))
    assert not list(tmp_path.iterdir())


def test_the_acquisition_is_in_the_tags_and_changes_no_value(tmp_path: Path) -> None:
    ct = volume()
    ct.values[0, 0, :] = -2048.0
    taken = CtAcquisition(kvp=100.0, kernel="SHARP", thickness_mm=3.0, field_mm=400.0, padding_hu=-2048.0)
    write_ct_dicom(tmp_path / "ct", ct, acquisition=taken)
    header = pydicom.dcmread(tmp_path / "ct" / "slice_0002.dcm")
    assert (header.KVP, header.ConvolutionKernel, header.ReconstructionDiameter) == (100.0, "SHARP", 400.0)
    assert (header.SliceThickness, header.SpacingBetweenSlices) == (3.0, 2.5)
    assert header.PixelPaddingValue * header.RescaleSlope + header.RescaleIntercept == -2048
    assert header.PixelPaddingValue == header.pixel_array[0, 0]
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").values, ct.values)


def test_slices_are_written_with_a_rescale_of_their_own(tmp_path: Path) -> None:
    ct = volume()
    rescales = ((1.0, -1024.0), (0.5, 100.0), (2.0, -2000.0), (0.3, 0.0))
    write_ct_dicom(tmp_path / "ct", ct, acquisition=CtAcquisition(rescales=rescales))
    back = read_volume(tmp_path / "ct")
    for k, (slope, _) in enumerate(rescales):
        np.testing.assert_allclose(back.values[:, :, k], ct.values[:, :, k], atol=0.5 * slope + 1e-3)
    with pytest.raises(ValueError, match="1 rescales for 4 slices"):
        write_ct_dicom(tmp_path / "other", ct, acquisition=CtAcquisition(rescales=((1.0, 0.0),)))
