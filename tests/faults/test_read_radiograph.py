"""Faults of radiograph files: each is refused in one line of its own; nothing is guessed."""

from __future__ import annotations

import logging
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import (
    GeometryMissing,
    NonFiniteVoxels,
    OversizedFile,
    PolarityUnknown,
    SideConflict,
    SpacingConflict,
    UnreadableFile,
    ViewConflict,
)
from hierbmd.geometry import Side, View
from hierbmd.io.dicom_write import DicomOptions, write_radiograph_dicom
from hierbmd.io.image import write_mha_image
from hierbmd.io.radiograph import RadiographOptions, read_radiograph

BRIGHT = RadiographOptions(polarity="bright-bone")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).random((80, 60)).astype(np.float32)
    image = Radiograph(pixels, (0.2, 0.3), 1150.0, None, View.AP, Side.RIGHT)
    write_radiograph_dicom(tmp_path / "x.dcm", image, DicomOptions(bits_stored=12))
    return tmp_path / "x.dcm"


# 1: truncated, empty or not an image


@pytest.mark.parametrize("name", ["x.dcm", "x.png", "x.tif", "x.jpg", "x.mha"])
@pytest.mark.parametrize("content", [b"", b"a letter, not a film\n" * 40])
def test_empty_and_non_image_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"^not a readable (radiograph|image): "):
        read_radiograph(tmp_path / name, BRIGHT)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg"])
def test_truncated_pictures(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableFile, match=r"^not a readable radiograph: "):
        read_radiograph(tmp_path / name, BRIGHT)


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000"])
def test_truncated_dicom(tmp_path: Path, film: Path, compression: str) -> None:
    image = read_radiograph(film)
    write_radiograph_dicom(film, image, DicomOptions(compression=compression))
    content = film.read_bytes()
    film.write_bytes(content[: len(content) - 900])
    with pytest.raises((UnreadableFile, OversizedFile), match=r"^not a readable radiograph: "):
        read_radiograph(film)


@pytest.mark.parametrize("tags", [{"Modality": "MR"}, {"SamplesPerPixel": 3}, {"NumberOfFrames": 4}, {"HighBit": 13}])
def test_dicom_that_is_no_single_grey_projection(
    film: Path, tags: dict[str, object], edited: Callable[..., Path]
) -> None:
    with pytest.raises(UnreadableFile, match=r"^not a readable radiograph: "):
        read_radiograph(edited(film, **tags))


def test_a_ct_slice_is_no_radiograph(film: Path, edited: Callable[..., Path]) -> None:
    with pytest.raises(UnreadableFile, match="CT slice"):
        read_radiograph(edited(film, Modality="CT"))


# 2, 3: claims more than it holds, or than the limit


def test_dicom_that_claims_more_than_it_holds(film: Path, edited: Callable[..., Path]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(OversizedFile, match="claims 7200000000 bytes"):
            read_radiograph(edited(film, Rows=60_000, Columns=60_000))
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def _png(path: Path, width: int, height: int, content: bytes) -> Path:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def test_a_png_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    with pytest.raises((OversizedFile, UnreadableFile), match=r"^not a readable radiograph: "):
        read_radiograph(_png(tmp_path / "x.png", 50_000, 50_000, b"\0"), BRIGHT)
    with pytest.raises(OversizedFile, match="claims 100000000 bytes"):
        read_radiograph(_png(tmp_path / "x.png", 10_000, 10_000, b"\0"), BRIGHT)


def test_a_png_that_expands_past_the_limit(tmp_path: Path) -> None:
    bomb = _png(tmp_path / "x.png", 5000, 5000, b"\0" * 5001 * 5000)
    assert bomb.stat().st_size < 40_000
    with pytest.raises(OversizedFile, match="expands beyond the limit"):
        read_radiograph(bomb, RadiographOptions(polarity="bright-bone", max_gib=0.01))


# 10: NaN


def test_non_finite_pixels(tmp_path: Path) -> None:
    image = np.zeros((4, 5), np.float32)
    image[2, 3] = np.nan
    write_mha_image(tmp_path / "x.mha", image, pixel_mm=(1, 1))
    with pytest.raises(NonFiniteVoxels, match=r"\(2, 3\)"):
        read_radiograph(tmp_path / "x.mha", BRIGHT)


# 14: polarity


def test_a_picture_without_polarity(tmp_path: Path) -> None:
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(PolarityUnknown, match=r"^polarity not stated: .*--polarity"):
        read_radiograph(tmp_path / "x.png")


def test_a_dicom_without_photometric_interpretation(film: Path, edited: Callable[..., Path]) -> None:
    with pytest.raises((PolarityUnknown, UnreadableFile)):
        read_radiograph(edited(film, PhotometricInterpretation=""))


def test_photometric_and_intensity_sign_that_disagree(film: Path, edited: Callable[..., Path]) -> None:
    with pytest.raises(PolarityUnknown, match="MONOCHROME2 and PixelIntensityRelationshipSign 1 disagree"):
        read_radiograph(edited(film, PixelIntensityRelationshipSign=1))


def test_an_option_against_the_file(film: Path) -> None:
    with pytest.raises(PolarityUnknown, match="stated twice: MONOCHROME2"):
        read_radiograph(film, RadiographOptions(polarity="dark-bone"))
    assert read_radiograph(film, BRIGHT).side is Side.RIGHT


# 15: spacing and distance


def test_missing_geometry_is_never_guessed(film: Path, edited: Callable[..., Path]) -> None:
    bare = edited(film, ImagerPixelSpacing=None, DistanceSourceToDetector=None)
    image = read_radiograph(bare)
    assert (image.pixel_mm, image.sdd_mm) == (None, None)
    with pytest.raises(GeometryMissing, match=r"^geometry missing .*--pixel-mm and --sdd-mm"):
        _ = image.camera
    given = read_radiograph(bare, RadiographOptions(pixel_mm=(0.4, 0.5), sdd_mm=1000.0))
    assert given.camera.pixel_mm == (0.4, 0.5)


def test_dots_per_inch_are_no_spacing(tmp_path: Path) -> None:
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "x.png", dpi=(300, 300))
    assert read_radiograph(tmp_path / "x.png", BRIGHT).pixel_mm is None


@pytest.mark.parametrize("spacing", [[0, 0], [-1, 1]])
def test_a_spacing_of_zero_says_nothing(film: Path, spacing: list[float], edited: Callable[..., Path]) -> None:
    assert read_radiograph(edited(film, ImagerPixelSpacing=spacing)).pixel_mm is None


# 16: two spacings


def test_two_spacings_that_disagree_are_both_named(
    film: Path, caplog: pytest.LogCaptureFixture, edited: Callable[..., Path]
) -> None:
    both = edited(film, PixelSpacing=["0.25", "0.15"])
    with pytest.raises(SpacingConflict, match=r"ImagerPixelSpacing 0\.2 x 0\.3 and PixelSpacing 0\.15 x 0\.25"):
        read_radiograph(both)
    with caplog.at_level(logging.WARNING):
        assert read_radiograph(both, RadiographOptions(pixel_mm=(0.15, 0.25))).pixel_mm == (0.15, 0.25)
    assert "ImagerPixelSpacing" in caplog.text


def test_two_spacings_that_agree(film: Path, edited: Callable[..., Path]) -> None:
    assert read_radiograph(edited(film, PixelSpacing=["0.3", "0.2"])).pixel_mm == (0.2, 0.3)


# 17, 18: side and view


def test_sides_that_contradict(film: Path, edited: Callable[..., Path]) -> None:
    with pytest.raises(SideConflict, match="the file says side R, the option left"):
        read_radiograph(film, RadiographOptions(side=Side.LEFT))
    with pytest.raises(SideConflict, match="ImageLaterality R and Laterality L"):
        read_radiograph(edited(film, Laterality="L"))


def test_a_side_that_nothing_says_stays_none(film: Path, edited: Callable[..., Path]) -> None:
    assert read_radiograph(edited(film, ImageLaterality=None)).side is None
    assert read_radiograph(film, RadiographOptions(side=Side.LEFT)).side is Side.LEFT


@pytest.mark.parametrize("position", ["PA", "RL", "LLD"])
def test_views_that_contradict(film: Path, position: str, edited: Callable[..., Path]) -> None:
    with pytest.raises(ViewConflict, match=f"the file says view {position}, the option AP"):
        read_radiograph(edited(film, ViewPosition=position), RadiographOptions(view=View.AP))


def test_an_orientation_that_is_not_the_views(film: Path, edited: Callable[..., Path]) -> None:
    with pytest.raises(ViewConflict, match="A,F is not that of a AP view"):
        read_radiograph(edited(film, PatientOrientation=["A", "F"]))
    with pytest.raises(SideConflict, match="the file says patient orientation"):
        read_radiograph(edited(film, PatientOrientation=["L", "F"]), RadiographOptions(patient_orientation="R,F"))


def test_a_pa_film_that_may_hang_either_way(film: Path, edited: Callable[..., Path]) -> None:
    either = edited(film, ViewPosition="PA", PatientOrientation=None)
    with pytest.raises(SideConflict, match="nothing says which way"):
        read_radiograph(either)
    hung, seen = (read_radiograph(either, RadiographOptions(patient_orientation=o)).pixels for o in ("L,F", "R,F"))
    np.testing.assert_array_equal(hung, seen[:, ::-1])


# pictures that are no single film


def test_a_picture_of_several_pages(tmp_path: Path) -> None:
    page = Image.fromarray(np.eye(9, dtype=np.uint8))
    page.save(tmp_path / "x.tif", save_all=True, append_images=[page])
    with pytest.raises(UnreadableFile, match="2 images"):
        read_radiograph(tmp_path / "x.tif", BRIGHT)


def test_a_stack_of_virtual_radiographs(tmp_path: Path) -> None:
    write_mha_image(tmp_path / "x.mha", np.zeros((3, 4, 5), np.float32), pixel_mm=(1, 1))
    with pytest.raises(UnreadableFile, match="is no radiograph"):
        read_radiograph(tmp_path / "x.mha", BRIGHT)
