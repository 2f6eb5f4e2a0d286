"""That the stages learn, that every weight counts, and that a run stops where it should."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hierbmd.stages.decompose import Decompose
from hierbmd.stages.synthesize import Synthesize

from hierbmd.errors import BadConfig
from hierbmd.io.dataset import read_dataset
from hierbmd.io.weights import read_weights
from hierbmd.models.discriminator import DiscriminatorOptions
from hierbmd.models.losses import LossWeights
from hierbmd.models.unet import UNet
from hierbmd.training.data import PairData
from hierbmd.training.run import configure, train
from hierbmd.training.stage import Begin

DIRECT = {
    "model.generator.init_args.widths": [4, 8],
    "trainer.check_val_every_n_epoch": 4,
    "trainer.accelerator": "cpu",
    "samples_every": 0,
}


def _curve(run: Path, name: str) -> list[float]:
    with (run / "curves.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row[name]]


def _fall(curve: list[float]) -> float:
    """The mean of the last three epochs over the first."""
    return sum(curve[-3:]) / 3 / curve[0]


def test_the_image_stages_learn(tiny_runs: dict[str, Path]) -> None:
    assert _fall(_curve(tiny_runs["decompose"], "train/l1")) <= 0.8
    assert _fall(_curve(tiny_runs["synthesize"], "train/l1")) <= 0.8


@pytest.mark.parametrize("lr", [0.01, 0.0])
def test_regression_learns_and_only_by_its_steps(readable_dataset: Path, tmp_path: Path, lr: float) -> None:
    settings = {**DIRECT, "trainer.max_epochs": 10, "model.optimizer.init_args.lr": lr}
    config = ("comparison/direct_regression",)
    train("regress", readable_dataset, tmp_path / "run", config=config, overrides=settings, progress=False)
    assert (_fall(_curve(tmp_path / "run", "train/bmd")) <= 0.8) == (lr > 0)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LossWeights)])
def test_every_weight_of_the_configuration_changes_the_loss(name: str, hip_dataset: Path) -> None:
    data = PairData(str(hip_dataset), batch_size=4)
    batch = next(iter(data.plain_loader("val")))

    def loss(weights: LossWeights) -> float:
        torch.manual_seed(0)
        module: Any = Synthesize(
            UNet((4, 8)), weights, DiscriminatorOptions(layers=1, filters=4), from_scratch=True, channels_last=False
        )
        module.report = lambda *_: None
        module.begin(Begin(data.dataset.card, 0.8))
        return float(module.training_step(batch, 0).detach())

    ones = LossWeights(**dict.fromkeys((field.name for field in dataclasses.fields(LossWeights)), 1.0))
    assert loss(dataclasses.replace(ones, **{name: 2.0})) > loss(ones) + 1e-5
    module = configure("synthesize", [f"--model.weights.{name}=7", "--data.folder=x"]).model
    assert getattr(module.weights, name) == 7.0
    assert isinstance(configure("decompose", ["--data.folder=x"]).model, Decompose)


def test_early_stopping_keeps_the_best_weights(readable_dataset: Path, tmp_path: Path) -> None:
    # At so high a rate the value runs away, so that a later epoch is worse than the best.
    settings = {**DIRECT, "trainer.max_epochs": 30, "trainer.check_val_every_n_epoch": 1, "early_stopping": 2}
    settings |= {"model.optimizer.init_args.lr": 0.3, "data.folds.folds": 3, "data.folds.fold": 1}
    run, config = tmp_path / "run", ("comparison/direct_regression",)
    train("regress", readable_dataset, run, config=config, overrides=settings, progress=False)
    curve = _curve(run, "val/bmd")
    assert len(curve) < 30
    assert len(curve) - 1 - curve.index(min(curve)) == 2
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    exported = read_weights(run)[0]
    name = "network.value.weight"
    assert torch.equal(exported[name], best[name])
    assert not torch.equal(exported[name], last[name])


def test_early_stopping_needs_someone_to_look_at(readable_dataset: Path, tmp_path: Path) -> None:
    import shutil

    from hierbmd.io.dataset import write_dataset

    dataset = read_dataset(readable_dataset)
    shutil.copytree(readable_dataset / "pairs", tmp_path / "data" / "pairs")
    write_dataset(tmp_path / "data", dataset.card, dataset.of_split("train"))
    with pytest.raises(BadConfig, match="without validation patients"):
        train("decompose", tmp_path / "data", tmp_path / "run", overrides={"early_stopping": 2}, progress=False)


@pytest.mark.slow
def test_two_processes_train_together(readable_dataset: Path, tmp_path: Path) -> None:
    settings = {**DIRECT, "trainer.max_epochs": 8, "trainer.devices": 2, "trainer.strategy": "ddp"}
    settings |= {"model.discriminator.filters": 4, "model.discriminator.layers": 1, "data.batch_size": 2}
    command = [sys.executable, "-m", "hierbmd.cli", "train", "decompose", "--data", str(readable_dataset)]
    command += ["--out", str(tmp_path / "run"), *(f"--{key}={value}" for key, value in settings.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert _fall(_curve(tmp_path / "run", "train/l1")) <= 0.8
    with (tmp_path / "run" / "curves.csv").open() as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    # 40 training pairs, two processes of two a step: half the steps of one process.
    assert steps == [10 * n for n in range(1, 9)]
    assert read_weights(tmp_path / "run")[1].readout is None
