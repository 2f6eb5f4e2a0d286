"""Volumes, label maps and images come back from a file as they went in."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import OutputUnwritable
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.image import read_mha_image, windowed, write_labels, write_mha_image, write_png, write_volume
from hierbmd.io.labels import read_labels

SUFFIXES = (".nii.gz", ".nii", ".mha")


def asymmetric_volume(matrix: np.ndarray | None = None, shape: tuple[int, int, int] = (5, 6, 7)) -> Volume:
    values = np.random.default_rng(0).normal(-200, 400, shape).astype(np.float32)
    return Volume(values, Grid(shape, oblique() if matrix is None else matrix))


def oblique() -> np.ndarray:
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() * [0.7, 1.1, 2.5]
    matrix[:3, 3] = [-31.5, 12.25, 100.125]
    return matrix


def axis_orders() -> list[np.ndarray]:
    """All 48 axis orders and signs with spacing 1, 2, 3 mm."""
    orders = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(4)
            matrix[:3, :3] = 0
            for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
                matrix[axis, column] = sign * (column + 1)
            matrix[:3, 3] = [3, -4, 5]
            orders.append(matrix)
    return orders


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_oblique_volume_round_trips(tmp_path: Path, suffix: str) -> None:
    volume = asymmetric_volume()
    write_volume(tmp_path / f"ct{suffix}", volume)
    back = read_volume(tmp_path / f"ct{suffix}")
    np.testing.assert_array_equal(back.values, volume.values)
    np.testing.assert_allclose(back.grid.world_from_index, volume.grid.world_from_index, atol=1e-4)
    assert back.values.dtype == np.float32
    assert back.unit == "HU"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_axis_order_is_kept_as_stored(tmp_path: Path, suffix: str) -> None:
    for matrix in axis_orders():
        volume = asymmetric_volume(matrix, (3, 4, 5))
        write_volume(tmp_path / f"ct{suffix}", volume)
        back = read_volume(tmp_path / f"ct{suffix}")
        assert back.grid == volume.grid
        np.testing.assert_array_equal(back.values, volume.values)


def test_nifti_ras_is_turned_to_lps(tmp_path: Path) -> None:
    import nibabel as nib

    values = np.random.default_rng(1).normal(0, 300, (4, 5, 6)).astype(np.float32)
    ras = np.diag([2.0, 3.0, 4.0, 1.0])
    ras[:3, 3] = [10, 20, 30]
    nib.save(nib.Nifti1Image(values, ras), tmp_path / "ras.nii")
    grid = read_volume(tmp_path / "ras.nii").grid
    np.testing.assert_allclose(grid.world_from_index @ [1, 1, 1, 1], [-12, -23, 34, 1])
    assert grid.axis_codes == "RAS"


def test_nifti_and_nrrd_written_by_itk_place_voxels_alike(tmp_path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    volume = asymmetric_volume()
    write_volume(tmp_path / "ct.mha", volume)
    image = sitk.ReadImage(str(tmp_path / "ct.mha"))
    for name in ("ct.nii.gz", "ct.nrrd", "ct.mhd", "plain.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name), useCompression=name != "plain.nrrd")
        back = read_volume(tmp_path / name)
        np.testing.assert_allclose(back.values, volume.values)
        np.testing.assert_allclose(back.grid.world_from_index, volume.grid.world_from_index, atol=1e-4)


def test_nrrd_in_ras_is_the_same_place(tmp_path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.random.default_rng(2).normal(0, 300, (4, 5, 6)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "lps.nrrd"))
    ras = (tmp_path / "lps.nrrd").read_bytes().replace(b"left-posterior-superior", b"right-anterior-superior")
    (tmp_path / "ras.nrrd").write_bytes(ras)
    assert read_volume(tmp_path / "lps.nrrd").grid.axis_codes == "LPS"
    assert read_volume(tmp_path / "ras.nrrd").grid.axis_codes == "RAS"


def test_nifti_scaling_and_metres_are_applied(tmp_path: Path) -> None:
    import nibabel as nib

    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(stored, np.diag([0.001, 0.001, 0.002, 1.0]))
    image.header.set_slope_inter(50.0, -1000.0)
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "scaled.nii.gz")
    volume = read_volume(tmp_path / "scaled.nii.gz")
    np.testing.assert_allclose(volume.grid.spacing_mm, [1, 1, 2], rtol=1e-6)
    assert volume.values.min() == -1000.0


def test_density_volume_keeps_its_unit_out_of_the_hu_check(tmp_path: Path) -> None:
    grid = Grid((3, 3, 3), np.eye(4))
    density = Volume(np.full((3, 3, 3), 120.0, np.float32), grid, "mg/cm3 HA")
    write_volume(tmp_path / "density.nii.gz", density)
    assert read_volume(tmp_path / "density.nii.gz", unit="mg/cm3 HA").unit == "mg/cm3 HA"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("highest", "dtype"), [(117, "uint8"), (300, "uint16"), (70_000, "uint32")])
def test_label_maps_round_trip_in_the_smallest_type(tmp_path: Path, suffix: str, highest: int, dtype: str) -> None:
    ids = np.zeros((3, 4, 5), dtype=np.int64)
    ids[1, 2, 3] = highest
    write_labels(tmp_path / f"labels{suffix}", LabelMap(ids, Grid((3, 4, 5), oblique()), TOTALSEGMENTATOR_V2))
    back = read_labels(tmp_path / f"labels{suffix}")
    assert back.ids.dtype == dtype
    np.testing.assert_array_equal(back.ids, ids)


def test_mha_images_round_trip_with_their_metadata(tmp_path: Path) -> None:
    metadata = {"hierbmd_unit": "g/cm2", "hierbmd_material": "HA", "hierbmd_quantity": "density"}
    for shape in ((7, 5), (3, 7, 5)):
        image = np.random.default_rng(3).random(shape).astype(np.float32)
        write_mha_image(tmp_path / "drr.mha", image, pixel_mm=(0.5, 0.75), metadata=metadata)
        back = read_mha_image(tmp_path / "drr.mha")
        np.testing.assert_array_equal(back.pixels, image)
        assert back.pixel_mm == (0.5, 0.75)
        assert dict(back.metadata) == metadata


def test_png_maps_its_window_to_black_and_white(tmp_path: Path) -> None:
    from PIL import Image

    image = np.array([[0.0, 1.0], [2.0, np.nan]])
    np.testing.assert_array_equal(windowed(image, (0, 2)), [[0, 128], [255, 0]])
    write_png(tmp_path / "a.png", image, window=(0, 2))
    with Image.open(tmp_path / "a.png") as png:
        assert png.mode == "L"
        np.testing.assert_array_equal(np.asarray(png), [[0, 128], [255, 0]])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="no writer"):
        write_volume(tmp_path / "ct.xyz", asymmetric_volume())
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputUnwritable):
        write_volume(tmp_path / "file" / "ct.mha", asymmetric_volume())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
