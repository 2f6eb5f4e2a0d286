"""Faults of CT and label files: each is refused in one line of its own, before memory is taken."""

from __future__ import annotations

import gzip
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import (
    AffineConflict,
    BadAffine,
    BadConfig,
    LabelsMismatch,
    MissingExtra,
    MixedSeries,
    NonFiniteVoxels,
    NotHounsfield,
    NotOrthogonal,
    OversizedFile,
    RescaleMissing,
    SliceGap,
    SuspectedUnit,
    UnreadableFile,
)
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import DicomOptions, write_ct_dicom
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.labels import read_labels

FORMATS = ("ct.nii", "ct.nii.gz", "ct.mha", "ct.mhd", "ct.nrrd")


def ct(shape: tuple[int, int, int] = (12, 10, 8), matrix: np.ndarray | None = None) -> Volume:
    values = np.random.default_rng(5).normal(-100, 300, shape).astype(np.float32)
    return Volume(values, Grid(shape, np.diag([1.0, 1.0, 2.0, 1.0]) if matrix is None else matrix))


def write_any(path: Path, volume: Volume) -> Path:
    if path.suffix in (".nrrd", ".mhd"):
        import SimpleITK as sitk  # noqa: N813

        write_volume(path.with_suffix(".mha"), volume)
        sitk.WriteImage(sitk.ReadImage(str(path.with_suffix(".mha"))), str(path))
        path.with_suffix(".mha").unlink()
    else:
        write_volume(path, volume)
    return path


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_ct_dicom(tmp_path / "series", ct())
    return tmp_path / "series"


# 1: truncated, empty or not an image


@pytest.mark.parametrize("name", [*FORMATS, "ct.txt", "ct.dcm"])
@pytest.mark.parametrize("content", [b"", b"hello, this is a letter and not a scan\n" * 30])
def test_empty_and_non_image_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        UnreadableFile, match=rf"^not a readable CT: .*{name} \({'' if content else 'the file is empty'}"
    ):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, name: str, keep: float) -> None:
    path = write_any(tmp_path / name, ct())
    data = path.with_suffix(".raw") if name == "ct.mhd" else path
    data.write_bytes(data.read_bytes()[: int(keep * data.stat().st_size)])
    with pytest.raises((UnreadableFile, OversizedFile), match=r"^not a readable CT: "):
        read_volume(path)


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


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        read_volume(tmp_path / "nothing.nii.gz")
    with pytest.raises(UnreadableFile, match="0 CT slices"):
        read_volume(tmp_path)


# 2: a header that claims more voxels than the file holds


def _claiming(path: Path) -> Path:
    """A tiny file whose header claims 2000 x 2000 x 2000 voxels."""
    size = 2000
    if path.name.startswith("ct.nii"):
        header = nib.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape((size, size, size))
        header.set_sform(np.eye(4), code=1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        content = header.binaryblock + b"\0" * 29
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    elif path.suffix == ".nrrd":
        path.write_text(
            "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
            f"sizes: {size} {size} {size}\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
            "endian: little\nencoding: raw\n\nxx"
        )
    else:
        path.write_text(
            f"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = {size} {size} {size}\n"
            f"ElementType = MET_SHORT\nElementDataFile = {'LOCAL' if path.suffix == '.mha' else 'ct.raw'}\n"
        )
        path.with_name("ct.raw").write_bytes(b"\0" * 100)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_tiny_file_that_claims_2000_cubed(tmp_path: Path, name: str) -> None:
    path = _claiming(tmp_path / name)
    if name == "ct.nii":
        assert path.stat().st_size == 377
    tracemalloc.start()
    try:
        with pytest.raises(OversizedFile, match=r"^not a readable CT: .*claims 16000000\d\d\d bytes"):
            read_volume(path, max_gib=64)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha"])
def test_a_compressed_file_that_holds_less_than_it_claims(tmp_path: Path, name: str) -> None:
    path = write_any(tmp_path / name, ct((64, 64, 64)))
    content = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(content[:40] + struct.pack("<4h", 3, 64, 64, 200) + content[48:]))
    else:
        path.write_bytes(content.replace(b"DimSize = 64 64 64", b"DimSize = 64 64 200"))
    with pytest.raises(OversizedFile, match="claims"):
        read_volume(path)


def test_slices_that_claim_more_than_they_hold(series: Path, edited: Callable[..., Path]) -> None:
    for path in series.iterdir():
        edited(path, Rows=60_000, Columns=60_000)
    with pytest.raises(OversizedFile, match="claims"):
        read_volume(series, max_gib=1e6)


# 3: a compressed file that expands past the limit


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha", "ct.nrrd"])
def test_a_file_that_expands_past_the_limit(tmp_path: Path, name: str) -> None:
    path = write_any(tmp_path / name, Volume(np.zeros((100, 100, 100), np.float32), Grid((100, 100, 100), np.eye(4))))
    with pytest.raises(OversizedFile, match=r"expands beyond the limit of 0\.002 GiB"):
        read_volume(path, max_gib=0.002)


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
    write_ct_dicom(tmp_path / "ct", ct((64, 64, 8)), DicomOptions(compression="rle"))
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


def test_two_series_in_one_folder_are_both_named(series: Path, tmp_path: Path) -> None:
    write_ct_dicom(tmp_path / "other", ct())
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


# 7: gantry tilt and shear


def tilted() -> Volume:
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    matrix[1, 2] = 2.0 * np.tan(np.radians(15))
    i, j, k = np.meshgrid(*(np.arange(n, dtype=float) for n in (12, 30, 8)), indexing="ij")
    y_mm = j + matrix[1, 2] * k
    return Volume((40.0 * y_mm + 3.0 * i - 7.0 * k - 500).astype(np.float32), Grid((12, 30, 8), matrix))


@pytest.mark.parametrize("form", ["series", "ct.nii.gz", "ct.mha"])
def test_a_tilted_gantry_is_refused_and_resampled_on_request(tmp_path: Path, form: str) -> None:
    volume = tilted()
    path = tmp_path / form
    (write_ct_dicom if form == "series" else write_volume)(path, volume)
    with pytest.raises(NotOrthogonal, match=r"not orthogonal \(15\.0 deg\)"):
        read_volume(path)
    upright = read_volume(path, resample_tilt=True)
    upright.grid.require_orthogonal()
    np.testing.assert_allclose(upright.grid.spacing_mm, [1, 1, 2], atol=1e-6)
    # The field is linear in world mm, so trilinear resampling keeps it wherever the old volume reaches.
    inside = upright.values > -999
    x, y, z = np.moveaxis(_world_points(upright.grid), -1, 0)
    np.testing.assert_allclose(upright.values[inside], (40 * y + 3 * x - 3.5 * z - 500)[inside], atol=0.6)
    assert inside.sum() > 0.9 * volume.values.size * 0.8


def _world_points(grid: Grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return index @ grid.world_from_index[:3, :3].T + grid.world_from_index[:3, 3]


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


# 9: values that are not HU


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.0, 0.0, "every voxel is 0"),
        (0.0, 0.05, "attenuation"),
        (-0.001, 0.6, "attenuation"),
        (-3.0, 5.0, "normalised"),
        (0, 255, "8-bit"),
        (0, 4095, "unsigned 12 bit"),
        (0, 40_000, "unsigned 16 bit"),
        (-1000, 2e6, "reach"),
    ],
)
def test_values_that_are_not_hu(tmp_path: Path, low: float, high: float, said: str) -> None:
    volume = ct()
    volume.values[:] = np.linspace(low, high, volume.values.size).reshape(volume.values.shape)
    write_volume(tmp_path / "ct.nii.gz", volume)
    with pytest.raises(NotHounsfield, match=f"^values are not HU.*{said}"):
        read_volume(tmp_path / "ct.nii.gz")


def test_padding_does_not_hide_a_missing_offset(tmp_path: Path) -> None:
    volume = ct()
    volume.values[:] = np.linspace(0, 3000, volume.values.size).reshape(volume.values.shape)
    volume.values[:2] = -2000
    write_volume(tmp_path / "ct.nii.gz", volume)
    with pytest.raises(NotHounsfield, match="12 bit"):
        read_volume(tmp_path / "ct.nii.gz")


@pytest.mark.parametrize(("centre", "spread"), [(40, 15), (300, 200), (-900, 20)])
def test_crops_of_soft_tissue_bone_and_lung_are_hu(tmp_path: Path, centre: float, spread: float) -> None:
    volume = ct((20, 20, 20))
    volume.values[:] = np.random.default_rng(6).normal(centre, spread, volume.values.shape)
    write_volume(tmp_path / "ct.nii.gz", volume)
    assert read_volume(tmp_path / "ct.nii.gz").unit == "HU"


def test_the_real_volumes_are_hu(shared_data: Path) -> None:
    for name in (
        "torso-ct/example_ct.nii.gz",
        "pelvis-ct/pelvis_hips_crop_hu.nii.gz",
        "head-phantom-pair/ct_head_phantom_half_inplane_1mmz.nii.gz",
    ):
        assert read_volume(shared_data / name).values.min() < -1000


# 10: NaN and infinity


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha"])
def test_non_finite_voxels_are_counted_and_placed(tmp_path: Path, name: str, wrong: float) -> None:
    volume = ct()
    volume.values[3, 4, 5] = volume.values[3, 4, 6] = wrong
    write_volume(tmp_path / name, volume)
    with pytest.raises(NonFiniteVoxels, match=r"2 voxels .* first at \(3, 4, 5\)"):
        read_volume(tmp_path / name)


# 11: affines


def _nifti_with(path: Path, edit_header: Callable[[nib.Nifti1Header], None]) -> Path:
    image = nib.Nifti1Image(ct().values, np.eye(4))
    image.set_sform(np.eye(4), code=1)
    image.set_qform(None, code=0)
    edit_header(image.header)
    header = image.header.copy()
    header.set_data_offset(352)
    path.write_bytes(header.binaryblock + b"\0" * 4 + image.get_fdata(dtype=np.float32).tobytes(order="F"))
    return path


def _zero_row(header: nib.Nifti1Header) -> None:
    header["srow_z"] = 0


def _nan(header: nib.Nifti1Header) -> None:
    header["srow_x"] = np.nan


def _equal_rows(header: nib.Nifti1Header) -> None:
    header["srow_y"] = header["srow_x"]


def _no_forms(header: nib.Nifti1Header) -> None:
    header["sform_code"] = 0


def _bad_quaternion(header: nib.Nifti1Header) -> None:
    header["sform_code"], header["qform_code"], header["quatern_b"], header["quatern_c"] = 0, 1, 3.0, 3.0


@pytest.mark.parametrize("fault", [_zero_row, _nan, _equal_rows, _no_forms, _bad_quaternion])
def test_affines_that_place_nothing(tmp_path: Path, fault: Callable[[nib.Nifti1Header], None]) -> None:
    with pytest.raises(BadAffine, match=r"ct\.nii"):
        read_volume(_nifti_with(tmp_path / "ct.nii", fault))


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("ElementSpacing = 1 1 2", "ElementSpacing = 1 1 0"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 0 1 0 0 0 0"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = nan 0 0 0 1 0 0 0 1"),
    ],
)
def test_meta_images_with_affines_that_place_nothing(tmp_path: Path, line: str, instead: str) -> None:
    path = write_any(tmp_path / "ct.mha", ct())
    assert line.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(line.encode(), instead.encode()))
    with pytest.raises(BadAffine, match=r"ct\.mha"):
        read_volume(path)


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


def test_an_nrrd_without_a_patient_space(tmp_path: Path) -> None:
    path = write_any(tmp_path / "ct.nrrd", ct())
    path.write_bytes(path.read_bytes().replace(b"left-posterior-superior", b"scanner-xyz"))
    with pytest.raises(BadAffine, match="scanner-xyz"):
        read_volume(path)


def test_metres_for_millimetres(tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii.gz", ct(matrix=np.diag([1e-3, 1e-3, 2e-3, 1.0])))
    with pytest.raises(SuspectedUnit, match="metres"):
        read_volume(tmp_path / "ct.nii.gz")


# 12: qform and sform


def test_qform_and_sform_that_disagree_are_both_named(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ct().values, np.eye(4))
    image.set_sform(np.diag([1.0, 1.0, 1.0, 1.0]), code=1)
    image.set_qform(np.diag([-1.0, 1.0, 1.0, 1.0]), code=1)
    image.to_filename(tmp_path / "ct.nii.gz")
    with pytest.raises(AffineConflict, match=r"qform \(PIL\)|qform \(LAS\).*sform \(RAS\)"):
        read_volume(tmp_path / "ct.nii.gz")


def test_a_form_whose_code_is_zero_is_not_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ct().values, np.eye(4))
    image.set_sform(np.eye(4), code=1)
    image.set_qform(np.diag([-1.0, 1.0, 1.0, 1.0]), code=0)
    image.to_filename(tmp_path / "ct.nii.gz")
    assert read_volume(tmp_path / "ct.nii.gz").grid.axis_codes == "RAS"


# decoders that are not there, headers that point elsewhere


def test_a_missing_decoder_is_named(series: Path) -> None:
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
        dataset.save_as(path)
    with pytest.raises(MissingExtra, match="pylibjpeg-libjpeg"):
        read_volume(series)


@pytest.mark.parametrize("elsewhere", ["../secret.raw", "/etc/hostname", "LIST", "slice%03d.raw 1 8 1"])
def test_a_header_cannot_point_out_of_its_folder(tmp_path: Path, elsewhere: str) -> None:
    path = write_any(tmp_path / "ct.mhd", ct())
    path.write_text(path.read_text().replace("ct.raw", elsewhere))
    with pytest.raises(UnreadableFile, match=r"ct\.mhd"):
        read_volume(path)


# label maps


def labels(grid: Grid) -> LabelMap:
    ids = np.zeros(grid.shape, dtype=np.uint8)
    ids[2:5, 3:6, 1:4] = 75
    return LabelMap(ids, grid)


def test_labels_that_do_not_overlap_their_ct(tmp_path: Path) -> None:
    grid = ct().grid
    write_labels(tmp_path / "labels.nii.gz", labels(grid))
    elsewhere = grid.world_from_index.copy()
    elsewhere[0, 3] = 500.0
    with pytest.raises(LabelsMismatch, match="does not overlap"):
        read_labels(tmp_path / "labels.nii.gz", onto=Grid(grid.shape, elsewhere))


@pytest.mark.parametrize("value", [-1.0, 0.5, 5e9])
def test_values_that_are_no_ids(tmp_path: Path, value: float) -> None:
    volume = Volume(np.zeros((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    volume.values[1, 1, 1] = value
    write_volume(tmp_path / "labels.nii.gz", volume)
    with pytest.raises(LabelsMismatch, match="not a label map"):
        read_labels(tmp_path / "labels.nii.gz")


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"femur": "75"}', '{"femur": 0}', '{"a": 1, "b": 1}', "nonsense"])
def test_schemes_that_are_none(tmp_path: Path, text: str) -> None:
    write_labels(tmp_path / "labels.nii.gz", labels(ct().grid))
    (tmp_path / "scheme.json").write_text(text)
    with pytest.raises(BadConfig, match=r"scheme\.json"):
        read_labels(tmp_path / "labels.nii.gz", scheme=tmp_path / "scheme.json")


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


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd", "ct.nii"])
def test_images_of_vectors_and_of_other_dimensions(tmp_path: Path, name: str) -> None:
    import SimpleITK as sitk  # noqa: N813

    for pixels, is_vector in ((np.zeros((4, 5), np.int16), False), (np.zeros((4, 5, 6, 3), np.int16), True)):
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=is_vector), str(tmp_path / name))
        with pytest.raises(UnreadableFile):
            read_volume(tmp_path / name)


@pytest.mark.parametrize(("word", "instead"), [(b"encoding: gzip", b"encoding: bzip2"), (b"encoding: gzip", b"no: x")])
def test_nrrd_packed_otherwise(tmp_path: Path, word: bytes, instead: bytes) -> None:
    import SimpleITK as sitk  # noqa: N813

    write_volume(tmp_path / "ct.mha", ct())
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "ct.mha")), str(tmp_path / "ct.nrrd"), useCompression=True)
    content = (tmp_path / "ct.nrrd").read_bytes()
    assert word in content
    (tmp_path / "ct.nrrd").write_bytes(content.replace(word, instead))
    with pytest.raises(UnreadableFile, match="encoding"):
        read_volume(tmp_path / "ct.nrrd")


def test_a_four_dimensional_nifti(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6, 2), np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "ct.nii")
    with pytest.raises(UnreadableFile, match="not one 3D volume"):
        read_volume(tmp_path / "ct.nii")


def test_a_folder_is_no_label_map(series: Path) -> None:
    with pytest.raises(UnreadableFile, match="is a folder"):
        read_labels(series)
