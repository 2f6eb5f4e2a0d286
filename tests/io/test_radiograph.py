"""Radiographs come in with bone bright, turned to their view, with what the file and the options say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import GeometryMissing, UnreadableFile
from hierbmd.geometry import Beam, Side, View
from hierbmd.io.dicom_write import DicomOptions, write_radiograph_dicom
from hierbmd.io.image import write_mha_image
from hierbmd.io.localizer import read_localizer_geometry
from hierbmd.io.radiograph import RadiographOptions, read_radiograph, read_stated


def letter_r() -> np.ndarray:
    """An "R": no flip or turn of it looks like itself."""
    rows = ["#####...", "#....#..", "#....#..", "#####...", "#..#....", "#...#...", "#....#..", "........", "........"]
    return np.array([[c == "#" for c in row] for row in rows], dtype=np.float32)


def radiograph(view: View = View.AP, side: Side = Side.RIGHT) -> Radiograph:
    return Radiograph(letter_r(), (0.2, 0.3), 1150.0, 900.0, view, side)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000"])
def test_written_dicom_comes_back(tmp_path: Path, photometric: str, bits: int, compression: str) -> None:
    pixels = np.random.default_rng(0).random((90, 70)).astype(np.float32)
    options = DicomOptions(photometric=photometric, bits_stored=bits, compression=compression)
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph().with_pixels(pixels), options)
    back = read_radiograph(tmp_path / "x.dcm")
    expected = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    np.testing.assert_allclose(back.pixels / (2**bits - 1), expected, atol=0.51 / (2**bits - 1))
    assert (back.pixel_mm, back.sdd_mm, back.source_isocentre_mm) == ((0.2, 0.3), 1150.0, 900.0)
    assert (back.view, back.side) == (View.AP, Side.RIGHT)
    assert back.camera.size_px == (70, 90)


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("side", list(Side))
def test_an_r_reads_as_an_r_in_every_view_and_side(tmp_path: Path, view: View, side: Side) -> None:
    write_radiograph_dicom(tmp_path / "r.dcm", radiograph(view, side), DicomOptions(bits_stored=8))
    back = read_radiograph(tmp_path / "r.dcm")
    np.testing.assert_array_equal(back.pixels / 255, letter_r())
    assert (back.view, back.side) == (view, side)


def _hung(image: np.ndarray, along: str, down: str) -> np.ndarray:
    """An AP image (L along rows, F down) as a file would store it with other directions; one step at a time."""
    if along in "HF":
        return _hung(image, down, along).T
    image = image[:, ::-1] if along == "R" else image
    return image[::-1] if down == "H" else image


@pytest.mark.parametrize("orientation", ["L,F", "R,F", "L,H", "R,H", "F,L", "F,R", "H,L", "H,R"])
def test_an_image_hung_otherwise_is_turned_to_its_view(tmp_path: Path, orientation: str) -> None:
    write_radiograph_dicom(tmp_path / "r.dcm", radiograph(), DicomOptions(bits_stored=8))
    dataset = pydicom.dcmread(tmp_path / "r.dcm")
    along, down = orientation.split(",")
    stored = np.ascontiguousarray(_hung(letter_r(), along, down) * 255).astype(np.uint8)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    dataset.PatientOrientation = [along, down]
    dataset.ImagerPixelSpacing = ["0.2", "0.3"] if along in "HF" else ["0.3", "0.2"]
    dataset.save_as(tmp_path / "hung.dcm")
    back = read_radiograph(tmp_path / "hung.dcm")
    np.testing.assert_array_equal(back.pixels / 255, letter_r())
    assert back.pixel_mm == (0.2, 0.3)


def test_a_pa_film_hung_the_usual_way_is_turned_to_the_detector(tmp_path: Path, edited: Callable[..., Path]) -> None:
    write_radiograph_dicom(tmp_path / "r.dcm", radiograph(View.PA), DicomOptions(bits_stored=8))
    back = read_radiograph(edited(tmp_path / "r.dcm", PatientOrientation=["L", "F"]))
    np.testing.assert_array_equal(back.pixels / 255, letter_r()[:, ::-1])


@pytest.mark.parametrize(("signed", "bits"), [(True, 10), (True, 12), (True, 16), (False, 11)])
def test_signed_and_odd_depths_with_stray_high_bits(tmp_path: Path, signed: bool, bits: int) -> None:
    low = -(2 ** (bits - 1)) if signed else 0
    true = np.array([[low, low + 3], [0, low + 2**bits - 1]], dtype=np.int64)
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph().with_pixels(np.zeros((2, 2), np.float32)))
    unused = np.array([[0xFFFF, 0], [0xFFFF, 0]]) & ~(2**bits - 1)
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.PixelData = ((true & (2**bits - 1)) | unused).astype(np.uint16).tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(signed)
    dataset.save_as(tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "x.dcm").pixels, true)


def test_rescale_and_modality_lut_are_applied_before_polarity(tmp_path: Path, edited: Callable[..., Path]) -> None:
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph(), DicomOptions(bits_stored=8, photometric="MONOCHROME1"))
    back = read_radiograph(edited(tmp_path / "x.dcm", RescaleSlope="2", RescaleIntercept="-100"))
    np.testing.assert_allclose(back.pixels, np.where(letter_r() > 0, 410, -100))


def test_for_processing_images_go_by_the_sign_and_the_logarithm(tmp_path: Path, edited: Callable[..., Path]) -> None:
    options = DicomOptions(bits_stored=12, photometric="MONOCHROME1")
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph(), options)
    linear = edited(
        tmp_path / "x.dcm",
        PresentationIntentType="FOR PROCESSING",
        PhotometricInterpretation="MONOCHROME2",
        PixelIntensityRelationship="LIN",
        PixelIntensityRelationshipSign=1,
    )
    back = read_radiograph(linear)
    np.testing.assert_allclose(back.pixels, np.where(letter_r() > 0, np.log(4095 / 0.5), 0.0), rtol=1e-6)


def test_side_spelled_by_the_series_alone(tmp_path: Path, edited: Callable[..., Path]) -> None:
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph())
    assert read_radiograph(edited(tmp_path / "x.dcm", ImageLaterality=None, Laterality="L")).side is Side.LEFT


def test_spacing_calibrated_to_the_patient_is_carried_to_the_detector(
    tmp_path: Path, edited: Callable[..., Path]
) -> None:
    write_radiograph_dicom(tmp_path / "x.dcm", radiograph())
    path = edited(
        tmp_path / "x.dcm",
        ImagerPixelSpacing=None,
        PixelSpacing=["0.2", "0.1"],
        PixelSpacingCalibrationType="GEOMETRY",
        EstimatedRadiographicMagnificationFactor="1.25",
    )
    assert read_radiograph(path).pixel_mm == pytest.approx((0.125, 0.25))
    assert read_radiograph(edited(path, EstimatedRadiographicMagnificationFactor=None)).pixel_mm is None


def test_an_unknown_side_makes_it_computed_radiography(tmp_path: Path) -> None:
    write_radiograph_dicom(tmp_path / "x.dcm", replace(radiograph(), side=None))
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    assert dataset.SOPClassUID.name == "Computed Radiography Image Storage"
    assert read_radiograph(tmp_path / "x.dcm").side is None


def test_no_name_is_written_and_seeds_give_the_same_uids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_radiograph_dicom(
            tmp_path / name, radiograph(), DicomOptions(subject="v0001", uid_seed="7", simulated=True)
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    dataset = pydicom.dcmread(tmp_path / "a")
    assert (str(dataset.PatientName), dataset.PatientID) == ("", "v0001")
    assert "Simulated. Research use only" in dataset.ImageComments


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("polarity", ["bright-bone", "dark-bone"])
def test_pictures_take_their_polarity_from_the_options(tmp_path: Path, suffix: str, polarity: str) -> None:
    stored = (letter_r() if polarity == "bright-bone" else 1 - letter_r()) * 255
    Image.fromarray(stored.astype(np.uint8)).resize((80, 90), Image.Resampling.NEAREST).save(
        tmp_path / f"x.{suffix}", quality=95
    )
    back = read_radiograph(tmp_path / f"x.{suffix}", RadiographOptions(polarity=polarity))
    np.testing.assert_allclose(back.pixels[5::10, 5::10] / 255, letter_r(), atol=0.05)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    stored = np.array([[0, 1, 257], [40_000, 65_534, 65_535]], dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / f"x.{suffix}")
    options = RadiographOptions(polarity="bright-bone", pixel_mm=(0.1, 0.2), sdd_mm=1000, view=View.AP, side=Side.BOTH)
    back = read_radiograph(tmp_path / f"x.{suffix}", options)
    np.testing.assert_array_equal(back.pixels, stored)
    assert (back.camera.pixel_mm, back.side) == ((0.1, 0.2), Side.BOTH)


def test_a_white_is_zero_tiff_is_read_as_it_is_shown(tmp_path: Path) -> None:
    stored = np.array([[0, 1], [300, 65_535]], dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / "x.tif", tiffinfo={262: 0})
    back = read_radiograph(tmp_path / "x.tif", RadiographOptions(polarity="bright-bone"))
    np.testing.assert_array_equal(back.pixels, 65_535 - stored.astype(float))


def test_linear_intensity_becomes_its_logarithm(tmp_path: Path) -> None:
    stored = np.array([[65_535, 24_109], [0, 8_869]], dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / "x.png")
    back = read_radiograph(tmp_path / "x.png", RadiographOptions(polarity="dark-bone", response="linear"))
    np.testing.assert_allclose(back.pixels, [[0, 1], [np.log(65_535 / 0.5), 2]], atol=1e-4)


def test_grey_colour_is_read_and_real_colour_refused(tmp_path: Path) -> None:
    grey = (letter_r() * 200).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "grey.png")
    options = RadiographOptions(polarity="bright-bone")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "grey.png", options).pixels, grey)
    Image.fromarray(np.stack([grey, grey, 255 - grey], axis=-1)).save(tmp_path / "colour.png")
    with pytest.raises(UnreadableFile, match="colour"):
        read_radiograph(tmp_path / "colour.png", options)


def test_a_virtual_radiograph_knows_its_polarity_and_spacing(tmp_path: Path) -> None:
    write_mha_image(tmp_path / "drr.mha", letter_r(), pixel_mm=(0.4, 0.5), metadata={"quantity": "density"})
    back = read_radiograph(tmp_path / "drr.mha")
    np.testing.assert_array_equal(back.pixels, letter_r())
    assert back.pixel_mm == (0.4, 0.5)
    with pytest.raises(GeometryMissing, match="--sdd-mm"):
        _ = back.camera


def test_real_radiographs_have_bright_bone_and_their_r_reads(shared_data: Path) -> None:
    chest = read_radiograph(shared_data / "radiographs" / "RG1_J2KR.dcm")
    spine, lung = chest.pixels[600:1200, 880:960], chest.pixels[500:700, 1250:1350]
    assert np.median(spine) > np.median(lung) + 2000
    assert (chest.view, chest.sdd_mm, chest.pixel_mm) == (View.PA, 1996.0, None)
    # Seen from the source behind the patient, the heart, on the patient's left, is on the image's left.
    assert np.median(chest.pixels[1100:1300, 620:760]) > np.median(chest.pixels[1100:1300, 1081:1221]) + 1000

    shin = read_radiograph(shared_data / "radiographs" / "RG3_J2KR.dcm")
    assert (shin.view, shin.side) == (View.AP, Side.RIGHT)
    # The file stores it mirrored, as it says itself; turned back, its leaded marker R reads as an R, and the fibula of
    # this right shin, which is lateral, is on the image's left.
    stated = read_stated(shared_data / "radiographs" / "RG3_J2KR.dcm")
    assert stated.patient_orientation == ("R", "F")
    np.testing.assert_array_equal(shin.pixels, 1023 - stated.stored[:, ::-1])


def test_the_localizer_is_a_projection(shared_data: Path) -> None:
    localizer = read_radiograph(shared_data / "head-phantom-pair" / "surview_lateral_localizer.dcm")
    assert localizer.size_px == (512, 256)
    assert (localizer.sdd_mm, localizer.source_isocentre_mm) == (1040.0, 570.0)
    assert localizer.pixel_mm == pytest.approx((0.9765625 * 1040 / 570, 0.9765625))
    assert localizer.pixels.max() > localizer.pixels[0, 0]


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"DistanceSourceToPatient": None}, "no DistanceSourceToPatient"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"ImageOrientationPatient": [0, 0, -1, 0, 1, 0]}, "do not run along the table"),
    ],
)
def test_a_localizer_that_does_not_say_where_it_was_taken_is_refused(shared_data, tmp_path, edited, tags, why):
    copy = tmp_path / "localizer.dcm"
    copy.write_bytes((shared_data / "head-phantom-pair" / "surview_lateral_localizer.dcm").read_bytes())
    with pytest.raises(GeometryMissing, match=why):
        read_localizer_geometry(edited(copy, **tags))


def test_a_localizer_whose_columns_run_across_the_table_is_no_slot_scan_of_ours(shared_data, tmp_path, edited):
    copy = tmp_path / "localizer.dcm"
    copy.write_bytes((shared_data / "head-phantom-pair" / "surview_lateral_localizer.dcm").read_bytes())
    turned = read_radiograph(edited(copy, ImageOrientationPatient=[0, 0, -1, 0, 1, 0]))
    assert turned.beam is Beam.CONE
    assert turned.pixel_mm == pytest.approx((0.9765625 * 1040 / 570,) * 2)


@pytest.mark.parametrize(
    ("directions", "view"),
    [([1, 0, 0, 0, 0, -1], View.AP), ([-1, 0, 0, 0, 0, -1], View.PA), ([0, -1, 0, 0, 0, -1], View.LAT)],
)
def test_a_localizers_view_is_the_way_its_rays_run(shared_data, tmp_path, edited, directions, view):
    copy = tmp_path / "localizer.dcm"
    copy.write_bytes((shared_data / "head-phantom-pair" / "surview_lateral_localizer.dcm").read_bytes())
    geometry = read_localizer_geometry(edited(copy, ImageOrientationPatient=directions))
    assert geometry.view is view
    assert np.allclose(geometry.camera_from_world[:3, :3], view.camera_from_world_rotation)
