"""FAULTS 30: a loss or a gradient that is not finite stops the run; the last good state and the batch's ids stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hierbmd.stages.decompose import Decompose

from hierbmd.errors import TrainingDiverged
from hierbmd.io.dataset import read_dataset, write_dataset, write_pair
from hierbmd.training.run import train


@pytest.fixture
def poisoned_dataset(readable_dataset: Path, tmp_path: Path) -> Path:
    """A data set in which one training pair's target holds a NaN."""
    dataset = read_dataset(readable_dataset)
    for n, record in enumerate(dataset.of_split("train", "val")):
        pair = dataset.load(record)
        bones = pair.bones.copy()
        if n == 7:
            bones[0, 20, 10] = np.nan
        write_pair(tmp_path / "poisoned", replace(pair, bones=bones))
    write_dataset(tmp_path / "poisoned", dataset.card, dataset.of_split("train", "val"))
    return tmp_path / "poisoned"


def test_a_nan_loss_stops_and_names_the_pairs(
    poisoned_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TrainingDiverged, match="the loss is not finite in epoch 0"):
        train("decompose", poisoned_dataset, out, overrides=tiny_settings, progress=False)
    found = json.loads((out / "diverged.json").read_text())
    culprit = read_dataset(poisoned_dataset).of_split("train")[7].pair_id
    assert culprit in found["pair_ids"]
    assert len(found["pair_ids"]) == 8
    assert not (out / "weights.safetensors").exists()


def _spoil(monkeypatch: pytest.MonkeyPatch, *, epoch: int, gradient: bool) -> None:
    original = Decompose.training_step

    def step(self: Decompose, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = original(self, batch, batch_idx)
        if self.current_epoch != epoch or batch_idx != 2:
            return loss
        if not gradient:
            return loss * float("inf")
        # The square root of zero is finite, its gradient is not.
        return loss + (loss - loss.detach()).sqrt()

    monkeypatch.setattr(Decompose, "training_step", step)


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_the_last_good_checkpoint_is_kept_and_finite(
    readable_dataset: Path,
    tmp_path: Path,
    tiny_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    gradient: bool,
) -> None:
    out, settings = tmp_path / "run", {**tiny_settings, "trainer.max_epochs": 3}
    with monkeypatch.context() as patch:
        _spoil(patch, epoch=1, gradient=gradient)
        what = "gradient" if gradient else "loss"
        with pytest.raises(TrainingDiverged, match=f"the {what} is not finite in epoch 1"):
            train("decompose", readable_dataset, out, overrides=settings, progress=False)
    state = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 0
    assert all(torch.isfinite(t).all() for t in state["state_dict"].values())
    # With the cause mended the same command goes on from there.
    train("decompose", readable_dataset, out, overrides=settings, progress=False)
    assert (out / "card.json").is_file()
