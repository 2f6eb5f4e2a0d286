"""FAULTS 30: a loss or a gradient that is not finite stops the run; the last good state and the batch's ids stay.

FAULTS 27 and 31 for a run's own folder: a checkpoint that is no checkpoint, a disk that is full, a folder that is none.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hierbmd.stages.decompose import Decompose

from hierbmd.errors import OutputUnwritable, TrainingDiverged, UntrustedWeights
from hierbmd.io.dataset import read_dataset, write_dataset, write_pair
from hierbmd.io.weights import read_weights
from hierbmd.training.checkpoint import AtomicCheckpointIO
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


@pytest.mark.parametrize("stage", ["pretrain", "synthesize", "regress"])
def test_the_other_stages_stop_alike(
    stage: Any,
    readable_dataset: Path,
    tmp_path: Path,
    tiny_runs: dict[str, Path],
    tiny_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib import import_module

    module = getattr(import_module(f"hierbmd.stages.{stage}"), stage.capitalize())
    original = module.training_step
    monkeypatch.setattr(module, "training_step", lambda self, batch, n: original(self, batch, n) * float("nan"))
    own = {"pretrain": ".generator.", "synthesize": ".discriminator.", "regress": " none"}[stage]
    settings = {key: value for key, value in tiny_settings.items() if "model." not in key or own in key}
    settings["trainer.max_epochs"] = 1
    start = {"synthesize": tiny_runs["decompose"], "regress": tiny_runs["synthesize"]}.get(stage)
    with pytest.raises(TrainingDiverged, match="the loss is not finite in epoch 0"):
        train(stage, readable_dataset, tmp_path / "run", start_from=start, overrides=settings, progress=False)
    found = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert len(found["pair_ids"]) > 0
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_a_full_disk_leaves_the_old_checkpoint_whole(
    readable_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings, saved = tmp_path / "run", {**tiny_settings, "trainer.max_epochs": 3}, []
    original = torch.save

    def full(checkpoint: Any, stream: Any) -> None:
        saved.append(checkpoint["epoch"])
        if len(saved) == 2:
            stream.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(checkpoint, stream)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OutputUnwritable, match="No space left on device"):
            train("decompose", readable_dataset, out, overrides=settings, progress=False)
    assert torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["last.ckpt"]
    train("decompose", readable_dataset, out, overrides=settings, progress=False)
    train("decompose", readable_dataset, tmp_path / "whole", overrides=settings, progress=False)
    resumed, whole = (read_weights(folder)[0] for folder in (out, tmp_path / "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


class _Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_checkpoint_that_is_none_is_refused_unrun(tmp_path: Path) -> None:
    mark, path = tmp_path / "exploded", tmp_path / "last.ckpt"
    torch.save({"state_dict": _Bomb(mark)}, path)
    with pytest.raises(UntrustedWeights, match="not a checkpoint that a run wrote"):
        AtomicCheckpointIO().load_checkpoint(path)
    assert not mark.exists()
    torch.save({"epoch": 1}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UntrustedWeights, match="remove it to begin the run again"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_run_folder_that_is_a_file_is_refused(
    readable_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputUnwritable):
        train("decompose", readable_dataset, tmp_path / "taken", overrides=tiny_settings, progress=False)
    assert (tmp_path / "taken").read_text() == "mine"
