"""The systems that the hierarchy is compared with: each trains by its configuration, and gives what it can give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierbmd.cli.main import main
from hierbmd.evaluation.cases import half_of
from hierbmd.io.dataset import read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.models.density import DensityNet
from hierbmd.models.regressor import BmdNet
from hierbmd.models.unet import UNet
from hierbmd.predict import load_predictor

SMALL = ["--config", "smoke", "--trainer.accelerator=cpu", "--model.generator.init_args.widths=[4,8]"]


@pytest.fixture
def run_of(readable_dataset: Path, tmp_path: Path) -> Any:
    """`run_of(stage, name)`: the folder of a run of seconds by configs/comparison/NAME.yaml, made by the command."""

    def train(stage: str, name: str, *more: str) -> Path:
        out = tmp_path / name
        arguments = ["--data", str(readable_dataset), "--out", str(out), "--config", f"comparison/{name}"]
        assert main(["train", stage, *arguments, *SMALL, *more]) == 0
        return out

    return train


def test_a_single_stage_needs_no_start_and_gives_value_and_image(run_of: Any, readable_dataset: Path) -> None:
    run = run_of("synthesize", "single_stage", "--model.discriminator.filters=4", "--model.discriminator.layers=1")
    assert json.loads((run / "run.json").read_text())["start_sha256"] is None
    dataset = read_dataset(readable_dataset)
    read = load_predictor(run).predict_half(half_of(dataset.load(dataset.records[0]), dataset))
    assert read.density is not None
    assert np.isfinite(read.bmd.value_g_cm2)


def test_direct_regression_gives_a_value_and_claims_no_image(
    run_of: Any, readable_dataset: Path, tmp_path: Path
) -> None:
    run = run_of("regress", "direct_regression")
    dataset = read_dataset(readable_dataset)
    half = half_of(dataset.load(dataset.records[0]), dataset)
    read = load_predictor(run).predict_half(half)
    assert read.density is None
    assert read.region_mask is None
    assert np.isfinite(read.bmd.value_g_cm2)
    assert main(["evaluate", "--model", str(run), "--data", str(readable_dataset), "--out", str(tmp_path / "e")]) == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["density_image"]["density_ssim"]["value"] is None
    assert metrics["rmse_g_cm2"] > 0


def test_a_prediction_without_an_image_leaves_the_result_alone(run_of: Any, tmp_path: Path) -> None:
    from hierbmd.data.radiograph import Radiograph
    from hierbmd.geometry import Side, View

    pixels = np.random.default_rng(0).normal(2.0, 0.3, (64, 32)).astype(np.float32)
    write_radiograph_dicom(tmp_path / "x.dcm", Radiograph(pixels, (3.0, 3.0), 1000.0, 900.0, View.AP, Side.RIGHT))
    out = tmp_path / "out"
    out.mkdir()
    (out / "density.mha").write_text("of another model")
    run = run_of("regress", "direct_regression")
    assert main(["predict", str(tmp_path / "x.dcm"), "--model", str(run), "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["prediction.json"]


def test_direct_regression_reads_the_encoder_alone() -> None:
    density = DensityNet(UNet((4, 8)), ("total_hip",), mask=True)
    network = BmdNet(density, from_readout=False, from_region=False, image=False, mean_g_cm2=0.8)
    density.freeze_decoder()
    torch.nn.init.normal_(network.value.weight)
    value, output = network(torch.randn(3, 1, 32, 16))
    value.sum().backward()
    assert output is None
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for name, p in network.named_parameters() if name in learning)
    assert not any("head" in name or ".up." in name for name in learning)
    assert any(".down." in name for name in learning)
    with pytest.raises(ValueError, match="needs the image"):
        BmdNet(density, image=False)
