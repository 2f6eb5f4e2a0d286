"""From a radiograph to BMD and density image: sides, orientation, flags, and the command's files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hierbmd.cli.main import main
from hierbmd.cli.predict import result_of
from hierbmd.data.density import REFERENCES, Bmd, DensityClass, reference_for
from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import GeometryMissing, SideConflict
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.image import read_mha_image, write_mha_image
from hierbmd.predict import NetworkPredictor, Prediction, load_predictor, predict_radiograph

PIXEL_MM = (3.0, 3.0)


@pytest.fixture
def predictor(tiny_runs: dict[str, Path]) -> NetworkPredictor:
    """The trained tiny model."""
    return load_predictor(tiny_runs["regress"])


@pytest.fixture
def halves(readable_dataset: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two different half radiographs in the canonical look, (64, 32) each."""
    dataset = read_dataset(readable_dataset)
    first, second = dataset.of_split("test")[0], dataset.of_split("test")[-1]
    return dataset.load(first).radiograph, dataset.load(second).radiograph


def _whole(right: NDArray[np.float32], left: NDArray[np.float32], view: View = View.AP) -> Radiograph:
    """A bilateral radiograph of two canonical halves: in AP the patient's right is on the image's left, as it looks."""
    halves = (right, left[:, ::-1]) if view == View.AP else (left, right[:, ::-1])
    return Radiograph(np.concatenate(halves, axis=1), PIXEL_MM, 1000.0, 900.0, view, Side.BOTH)


@pytest.mark.parametrize("view", [View.AP, View.PA])
def test_each_side_is_read_as_its_canonical_half(
    predictor: NetworkPredictor, halves: tuple[NDArray[np.float32], ...], view: View
) -> None:
    right, left = halves
    whole = _whole(right, left, view)
    for side, canonical in ((Side.RIGHT, right), (Side.LEFT, left)):
        alone = Radiograph(canonical, PIXEL_MM, 1000.0, 900.0, View.AP, Side.RIGHT)
        expected, _ = predict_radiograph(alone, predictor, Side.RIGHT)
        found, half = predict_radiograph(whole, predictor, side)
        assert found.bmd.value_g_cm2 == pytest.approx(expected.bmd.value_g_cm2, abs=1e-5)
        assert found.bmd.side == side
        look = expected.density.areal_g_cm2[:, ::-1] if half.geometry.mirrored else expected.density.areal_g_cm2
        assert np.allclose(found.density.areal_g_cm2, look, atol=1e-4)


def test_the_density_lies_where_the_bone_is(
    predictor: NetworkPredictor, halves: tuple[NDArray[np.float32], ...]
) -> None:
    # The bone is moved off the middle, so that a mirrored image would be seen.
    right = np.roll(halves[0], -4, axis=1)
    whole = _whole(right, right)
    for side in (Side.RIGHT, Side.LEFT):
        found, half = predict_radiograph(whole, predictor, side)
        seen = half.geometry.upright(half.pixels)[8:]
        bone = np.average(np.arange(32), weights=(seen - seen.min()).sum(axis=0))
        density = np.average(np.arange(32), weights=found.density.areal_g_cm2.sum(axis=0))
        assert abs(density - bone) < 0.5 * abs(density - (31.0 - bone))
        assert abs(bone - 15.5) > 3.0


def test_exposure_does_not_change_the_value(
    predictor: NetworkPredictor, halves: tuple[NDArray[np.float32], ...]
) -> None:
    whole = _whole(*halves)
    other = whole.with_pixels((whole.pixels * 250.0 + 90.0).astype(np.float32))
    first, second = (predict_radiograph(image, predictor, Side.RIGHT)[0].bmd.value_g_cm2 for image in (whole, other))
    assert second == pytest.approx(first, abs=1e-4)


def test_the_interval_holds_the_value(predictor: NetworkPredictor, halves: tuple[NDArray[np.float32], ...]) -> None:
    bmd = predict_radiograph(_whole(*halves), predictor, Side.LEFT)[0].bmd
    assert bmd.interval_g_cm2 is not None
    assert bmd.interval_g_cm2[0] < bmd.value_g_cm2 < bmd.interval_g_cm2[1]


def test_what_is_unlike_the_training_set_is_flagged(
    predictor: NetworkPredictor, halves: tuple[NDArray[np.float32], ...]
) -> None:
    card = replace(predictor.card, sdd_mm=1000.0, source_isocentre_mm=900.0)
    predictor = NetworkPredictor(card, predictor.network)
    whole = _whole(*halves)
    assert predict_radiograph(whole, predictor, Side.LEFT)[0].flags == ()
    flags = predict_radiograph(replace(whole, sdd_mm=1500.0), predictor, Side.LEFT)[0].flags
    assert flags == ("source-detector distance 1500 mm; the model learned at 1000 mm",)
    flags = predict_radiograph(replace(whole, pixel_mm=(6.0, 6.0)), predictor, Side.LEFT)[0].flags
    assert "pixels of 6 mm; the model reads 3 mm" in flags
    flags = predict_radiograph(replace(whole, view=View.PA), predictor, Side.LEFT)[0].flags
    assert "view PA; the model learned on AP" in flags
    small = Radiograph(halves[0][16:48], PIXEL_MM, 1000.0, 900.0, View.AP, Side.RIGHT)
    assert any("only 50%" in flag for flag in predict_radiograph(small, predictor, Side.RIGHT)[0].flags)


def test_sides_and_geometry_are_never_guessed(
    predictor: NetworkPredictor, halves: tuple[NDArray[np.float32], ...]
) -> None:
    whole = _whole(*halves)
    with pytest.raises(SideConflict):
        predict_radiograph(replace(whole, side=None), predictor, Side.LEFT)
    with pytest.raises(SideConflict):
        predict_radiograph(replace(whole, side=Side.RIGHT), predictor, Side.LEFT)
    with pytest.raises(GeometryMissing):
        predict_radiograph(replace(whole, sdd_mm=None), predictor, Side.LEFT)


STATED = ["--view", "AP", "--sdd-mm", "1000", "--source-isocenter-mm", "900", "--polarity", "bright-bone"]


def test_the_command_leaves_the_contracts_files(
    tiny_runs: dict[str, Path], halves: tuple[NDArray[np.float32], ...], tmp_path: Path
) -> None:
    write_mha_image(tmp_path / "hip.mha", halves[0], pixel_mm=PIXEL_MM)
    out = tmp_path / "out"
    arguments = [str(tmp_path / "hip.mha"), "--model", str(tiny_runs["regress"]), "--out", str(out)]
    assert main(["predict", *arguments, *STATED, "--side", "right"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["density.mha", "density.png", "prediction.json"]
    result = json.loads((out / "prediction.json").read_text())
    keys = {"bmd_g_cm2", "interval_g_cm2", "t_score", "class", "reference", "region", "model", "research_use_only"}
    assert keys <= result.keys()
    reference = REFERENCES["nhanes3-female-total-hip"]
    assert result["t_score"] == pytest.approx((result["bmd_g_cm2"] - 0.942) / 0.122)
    assert result["class"] == DensityClass.of(result["t_score"]).value
    assert result["reference"] == reference.name
    assert result["t_score_is_for"] == "postmenopausal women and men of 50 and over"
    assert result["young_adult_percent"] == pytest.approx(100 * result["bmd_g_cm2"] / 0.942)
    assert result["simulated_training"] is True
    assert result["top_left_on_radiograph_px"] == [0.0, 0.0]
    image = read_mha_image(out / "density.mha")
    assert image.pixel_mm == pytest.approx(PIXEL_MM)
    assert image.metadata["unit"] == "g/cm2"
    assert image.pixels.shape == (64, 32)
    assert image.pixels.min() >= 0.0


def test_one_side_of_a_radiograph_that_shows_both(tiny_runs: dict[str, Path], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((80, 80)).astype(np.float32)
    write_radiograph_dicom(tmp_path / "x.dcm", Radiograph(pixels, (3.2, 3.2), 1000.0, 900.0, View.AP, Side.BOTH))
    out = tmp_path / "out"
    arguments = [str(tmp_path / "x.dcm"), "--model", str(tiny_runs["regress"]), "--out", str(out), "--side", "left"]
    assert main(["predict", *arguments]) == 0
    assert json.loads((out / "prediction.json").read_text())["side"] == "left"


def test_both_sides_get_a_folder_each(
    tiny_runs: dict[str, Path], halves: tuple[NDArray[np.float32], ...], tmp_path: Path
) -> None:
    write_mha_image(tmp_path / "pelvis.mha", _whole(*halves).pixels, pixel_mm=PIXEL_MM)
    out = tmp_path / "out"
    arguments = [str(tmp_path / "pelvis.mha"), "--model", str(tiny_runs["synthesize"]), "--out", str(out)]
    assert main(["predict", *arguments, *STATED, "--side", "both"]) == 0
    results = {p.name: json.loads((p / "prediction.json").read_text()) for p in out.iterdir()}
    assert {name: result["side"] for name, result in results.items()} == {
        "pelvis_left": "left",
        "pelvis_right": "right",
    }
    assert results["pelvis_left"]["top_left_on_radiograph_px"] == [32.0, 0.0]
    assert results["pelvis_left"]["bmd_g_cm2"] != results["pelvis_right"]["bmd_g_cm2"]


def test_radiographs_of_one_name_get_a_folder_each(
    tiny_runs: dict[str, Path], halves: tuple[NDArray[np.float32], ...], tmp_path: Path
) -> None:
    files = [tmp_path / who / name for who, name in (("a", "hip.mha"), ("b", "hip.mha"))]
    for path, pixels in zip(files, halves, strict=True):
        path.parent.mkdir()
        write_mha_image(path, pixels, pixel_mm=PIXEL_MM)
    out = tmp_path / "out"
    arguments = ["--model", str(tiny_runs["synthesize"]), "--out", str(out), *STATED, "--side", "right"]
    assert main(["predict", *map(str, files), *arguments]) == 0
    results = {p.name: json.loads((p / "prediction.json").read_text()) for p in out.iterdir()}
    assert set(results) == {"a_hip", "b_hip"}
    assert results["a_hip"]["radiograph_sha256"] != results["b_hip"]["radiograph_sha256"]


def test_one_radiograph_given_twice_is_refused(
    tiny_runs: dict[str, Path],
    halves: tuple[NDArray[np.float32], ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_mha_image(tmp_path / "hip.mha", halves[0], pixel_mm=PIXEL_MM)
    arguments = [str(tmp_path / "hip.mha")] * 2 + [
        "--model",
        str(tiny_runs["synthesize"]),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(["predict", *arguments, *STATED, "--side", "right"]) == 1
    assert "a radiograph twice" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("age", "given"), [("49.9", False), ("50", True)])
def test_no_t_score_for_a_patient_below_fifty(
    age: str, given: bool, tiny_runs: dict[str, Path], halves: tuple[NDArray[np.float32], ...], tmp_path: Path
) -> None:
    write_mha_image(tmp_path / "hip.mha", halves[0], pixel_mm=PIXEL_MM)
    arguments = [str(tmp_path / "hip.mha"), "--model", str(tiny_runs["regress"]), "--out", str(tmp_path / "out")]
    assert main(["predict", *arguments, *STATED, "--side", "right", "--age", age]) == 0
    result = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (result["t_score"] is not None) == (result["class"] is not None) == given
    assert result["bmd_g_cm2"] > 0


def test_a_region_without_a_reference_gives_its_bmd_and_says_why_there_is_no_t_score(
    blob_reader: Any,
) -> None:
    reader = blob_reader()
    reader.card = replace(
        reader.card, region="intertrochanter", training={"bmd_sources": ["qct (internal calibration)"]}
    )
    bmd = Bmd(0.9, "intertrochanter", Side.LEFT, interval_g_cm2=(0.8, 1.0))
    reference = reference_for("auto", reader.card.region)
    result = result_of(Prediction(None, bmd, None, ()), reader, reference, age=70)
    assert (result["bmd_g_cm2"], result["interval_g_cm2"]) == (0.9, [0.8, 1.0])
    assert result["t_score"] is result["class"] is result["reference"] is result["young_adult_percent"] is None
    assert "no young-adult reference of the intertrochanter" in result["t_score_reason"]
    assert result["learned_from"] == ["qct (internal calibration)"]
    assert reference_for("auto", "femoral_neck") == REFERENCES["nhanes3-female-femoral-neck"]


def test_a_reference_of_another_region_is_refused(
    tiny_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["x.mha", "--model", str(tiny_runs["regress"]), "--out", str(tmp_path / "out")]
    assert main(["predict", *arguments, "--reference", "nhanes3-female-femoral-neck"]) == 1
    assert "the reference is of the femoral_neck" in capsys.readouterr().err


def test_predicting_needs_no_lightning(tiny_runs: dict[str, Path]) -> None:
    code = (
        "import sys; from hierbmd.predict import load_predictor; assert 'torch' not in sys.modules; "
        f"load_predictor({str(tiny_runs['regress'])!r}); "
        "assert not [m for m in sys.modules if m.split('.')[0] in ('lightning', 'jsonargparse')], 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
