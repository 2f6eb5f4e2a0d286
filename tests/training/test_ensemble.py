"""A fold ensemble: the mean of its members, their spread, an interval from what each held out, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import BadConfig
from hierbmd.evaluation.cases import half_of
from hierbmd.evaluation.conformal import conformal_half_width
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.image import read_mha_image
from hierbmd.predict import EnsemblePredictor, load_predictor
from hierbmd.training.data import FoldChoice, PairData
from hierbmd.training.ensemble import make_ensemble
from hierbmd.training.run import train


@pytest.fixture(scope="module")
def runs(readable_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of stage 2 from scratch on each of three folds."""
    folder = tmp_path_factory.mktemp("folds")
    settings: dict[str, Any] = {
        "model.from_scratch": "true",
        "model.generator.init_args.widths": [4, 8],
        "model.weights.adversarial": 0,
        "model.weights.feature_matching": 0,
        "trainer.max_epochs": 4,
        "trainer.accelerator": "cpu",
        "samples_every": 0,
        "data.folds.folds": 3,
    }
    for fold in range(3):
        overrides = {**settings, "data.folds.fold": fold, "seed_everything": fold}
        config = ("comparison/single_stage",)
        run = folder / str(fold)
        train("synthesize", readable_dataset, run, config=config, overrides=overrides, progress=False)
    return [folder / str(fold) for fold in range(3)]


@pytest.fixture(scope="module")
def ensemble(runs: list[Path], readable_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ensemble's folder, made by the command."""
    out = tmp_path_factory.mktemp("ensemble") / "model"
    assert main(["ensemble", *map(str, runs), "--data", str(readable_dataset), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def dataset(readable_dataset: Path) -> Dataset:
    """The data set."""
    return read_dataset(readable_dataset)


def test_it_reads_the_mean_of_its_members_and_their_spread(ensemble: Path, runs: list[Path], dataset: Dataset) -> None:
    half = half_of(dataset.load(dataset.of_split("test")[0]), dataset)
    whole = load_predictor(ensemble)
    assert isinstance(whole, EnsemblePredictor)
    read, single = whole.predict_half(half), [load_predictor(run).predict_half(half) for run in runs]
    values = [one.bmd.value_g_cm2 for one in single]
    assert read.bmd.value_g_cm2 == pytest.approx(np.mean(values), abs=1e-6)
    assert read.spread is not None
    assert read.density is not None
    assert read.spread.bmd_g_cm2 == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    images = np.stack([one.density.areal_g_cm2 for one in single if one.density is not None])
    assert np.allclose(read.density.areal_g_cm2, images.mean(axis=0), atol=1e-6)
    assert read.spread.density is not None
    assert np.allclose(read.spread.density.areal_g_cm2, images.std(axis=0, ddof=1), atol=1e-6)
    assert read.spread.density.areal_g_cm2.max() > 0


def test_its_interval_is_of_patients_that_each_member_held_out(
    ensemble: Path, runs: list[Path], dataset: Dataset
) -> None:
    residuals, subjects = [], []
    for fold, run in enumerate(runs):
        predictor = load_predictor(run)
        for record in PairData(str(dataset.folder), folds=FoldChoice(folds=3, fold=fold)).records("val"):
            read = predictor.predict_half(half_of(dataset.load(record), dataset))
            residuals.append(abs(read.bmd.value_g_cm2 - record.bmd_g_cm2))
            subjects.append(record.subject)
    readout = load_predictor(ensemble).card.readout
    assert readout is not None
    assert (readout.interval_g_cm2, readout.interval_level) == pytest.approx(
        conformal_half_width(np.array(residuals), subjects), abs=1e-6
    )


def test_predict_and_evaluate_take_it_as_any_model(ensemble: Path, dataset: Dataset, tmp_path: Path) -> None:
    pixels = dataset.load(dataset.of_split("test")[0]).radiograph
    write_radiograph_dicom(tmp_path / "x.dcm", Radiograph(pixels, (3.0, 3.0), 1000.0, 900.0, View.AP, Side.RIGHT))
    assert main(["predict", str(tmp_path / "x.dcm"), "--model", str(ensemble), "--out", str(tmp_path / "p")]) == 0
    found = json.loads((tmp_path / "p" / "prediction.json").read_text())
    assert found["ensemble_sd_g_cm2"] > 0
    assert found["interval_g_cm2"][0] < found["bmd_g_cm2"] < found["interval_g_cm2"][1]
    assert read_mha_image(tmp_path / "p" / "density_sd.mha").pixels.shape == (64, 32)
    arguments = ["--model", str(ensemble), "--data", str(dataset.folder), "--out", str(tmp_path / "e")]
    assert main(["evaluate", *arguments]) == 0


def test_evaluate_reads_what_each_run_held_out(runs: list[Path], dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "folds"
    arguments = ["--folds", ",".join(map(str, runs)), "--data", str(dataset.folder), "--out", str(out)]
    assert main(["evaluate", *arguments, "--bootstrap-samples", "150"]) == 0
    found = json.loads((out / "metrics.json").read_text())
    errors = []
    for fold, run in enumerate(runs):
        predictor = load_predictor(run)
        for record in PairData(str(dataset.folder), folds=FoldChoice(folds=3, fold=fold)).records("val"):
            read = predictor.predict_half(half_of(dataset.load(record), dataset))
            errors.append(read.bmd.value_g_cm2 - record.bmd_g_cm2)
    assert found["agreement"]["model"]["rmse_g_cm2"]["value"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert found["n_images"] == len(errors)
    assert (out / "report.html").is_file()


def test_what_is_no_ensemble_is_refused(
    runs: list[Path], readable_dataset: Path, hip_dataset: Path, tmp_path: Path, tiny_runs: dict[str, Path]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadConfig, match="a fold twice"):
        make_ensemble([runs[0], runs[1], runs[0]], readable_dataset, out)
    with pytest.raises(BadConfig, match="fewer than two"):
        make_ensemble(runs[:1], readable_dataset, out)
    with pytest.raises(BadConfig, match="another data set"):
        make_ensemble(runs, hip_dataset, out)
    with pytest.raises(BadConfig, match="holds out no fold"):
        make_ensemble([runs[0], tiny_runs["synthesize"]], readable_dataset, out)
    assert not out.exists()


def test_images_unlike_the_training_images_are_flagged(runs: list[Path], dataset: Dataset) -> None:
    predictor = load_predictor(runs[0])
    pairs = [dataset.load(record) for record in dataset.of_split("test")]
    known = [predictor.predict_half(half_of(pair, dataset)) for pair in pairs]
    assert np.mean([bool(one.flags) for one in known]) < 0.15
    assert all((one.novelty > 1) == any("unlike" in flag for flag in one.flags) for one in known if one.novelty)
    from dataclasses import replace

    noise = np.random.default_rng(0).normal(2.0, 1.0, (64, 32)).astype(np.float32)
    upside_down = pairs[0].radiograph[::-1].copy()
    for pixels in (noise, upside_down):
        read = predictor.predict_half(half_of(replace(pairs[0], radiograph=pixels), dataset))
        assert read.novelty is not None
        assert read.novelty > 1.5
        assert any("unlike the training images" in flag for flag in read.flags)
