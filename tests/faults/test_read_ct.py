"""Faults of CT and label files: each is refused in one line of its own, before memory is taken."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.errors import (
    AffineConflict,
    BadAffine,
    NonFiniteVoxels,
    NotHounsfield,
    NotOrthogonal,
    OversizedFile,
    SuspectedUnit,
    UnreadableFile,
)
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import write_ct_dicom
from hierbmd.io.image import write_volume

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


# 3: a compressed file that expands past the limit


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha", "ct.nrrd"])
def test_a_file_that_expands_past_the_limit(tmp_path: Path, name: str) -> None:
    path = write_any(tmp_path / name, Volume(np.zeros((100, 100, 100), np.float32), Grid((100, 100, 100), np.eye(4))))
    with pytest.raises(OversizedFile, match=r"expands beyond the limit of 0\.002 GiB"):
        read_volume(path, max_gib=0.002)


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


@pytest.mark.parametrize("elsewhere", ["../secret.raw", "/etc/hostname", "LIST", "slice%03d.raw 1 8 1"])
def test_a_header_cannot_point_out_of_its_folder(tmp_path: Path, elsewhere: str) -> None:
    path = write_any(tmp_path / "ct.mhd", ct())
    path.write_text(path.read_text().replace("ct.raw", elsewhere))
    with pytest.raises(UnreadableFile, match=r"ct\.mhd"):
        read_volume(path)


# what is an image, but no CT volume


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
