"""Pairs as batches: order, content, and the splits that are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hierbmd.errors import BadManifest
from hierbmd.io.dataset import read_dataset, write_dataset
from hierbmd.training.data import EpochShuffle, PairData


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler, again = EpochShuffle(20, seed=4), EpochShuffle(20, seed=4)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    again.set_epoch(1)
    assert list(again) == second != first
    assert sorted(i for i, _ in first) == sorted(i for i, _ in second) == list(range(20))
    assert list(EpochShuffle(20, seed=5)) != first


def test_batches_hold_what_the_data_set_holds(hip_dataset: Path) -> None:
    data = PairData(str(hip_dataset), batch_size=3)
    batch = next(iter(data.plain_loader("val")))
    dataset = read_dataset(hip_dataset)
    record = dataset.of_split("val")[1]
    pair = dataset.load(record)
    assert batch["pair_id"][1] == record.pair_id
    assert np.array_equal(batch["region"][1, 0].numpy(), pair.region)
    assert np.array_equal(batch["bones"][1].numpy(), pair.bones)
    assert batch["bmd"][1].item() == pytest.approx(record.bmd_g_cm2)
    assert batch["radiograph"].shape == (3, 1, 64, 32)
    assert batch["radiograph"].max() <= 1.5


def test_training_batches_are_of_training_patients_and_alike_for_alike_seeds(hip_dataset: Path) -> None:
    def epoch(seed: int, number: int) -> list[torch.Tensor]:
        loader = PairData(str(hip_dataset), batch_size=16, seed=seed).train_dataloader()
        assert isinstance(loader.sampler, EpochShuffle)
        loader.sampler.set_epoch(number)
        batches = list(loader)
        ids = {name for batch in batches for name in batch["pair_id"]}
        assert ids == {r.pair_id for r in read_dataset(hip_dataset).of_split("train")}
        return [batch["radiograph"] for batch in batches]

    assert all(torch.equal(a, b) for a, b in zip(epoch(3, 2), epoch(3, 2), strict=True))
    assert not torch.equal(epoch(3, 2)[0], epoch(3, 3)[0])


def test_a_patient_in_two_splits_is_refused(hip_dataset: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    dataset = read_dataset(hip_dataset)
    torn = (replace(dataset.records[0], split="test"), *dataset.records[1:])
    write_dataset(tmp_path, dataset.card, torn)
    with pytest.raises(BadManifest, match="patients in two splits: p00"):
        PairData(str(tmp_path)).train_dataloader()


def test_no_training_pairs_are_refused(hip_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(hip_dataset)
    write_dataset(tmp_path, dataset.card, dataset.of_split("test"))
    with pytest.raises(BadManifest, match="no training pairs"):
        PairData(str(tmp_path)).train_dataloader()


def test_the_digest_sees_every_used_pixel(hip_dataset: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(hip_dataset, copy)
    assert PairData(str(copy)).digest() == PairData(str(hip_dataset)).digest()
    pair = next((copy / "pairs").glob("p00_*"))
    pair.write_bytes(next((copy / "pairs").glob("p01_*")).read_bytes())
    assert PairData(str(copy)).digest() != PairData(str(hip_dataset)).digest()
