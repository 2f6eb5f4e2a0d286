"""Pairs as batches: order, content, and the splits that are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hierbmd.errors import BadManifest, SplitLeak
from hierbmd.io.dataset import read_dataset, write_dataset
from hierbmd.training.data import EpochShuffle, FoldChoice, PairData


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
    named = rf"one patient in two splits: {torn[0].pair_id} \(test\) and {torn[1].pair_id} \(train\)"
    with pytest.raises(SplitLeak, match=named):
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


def test_folds_hold_out_every_patient_once_with_all_images(hip_dataset: Path) -> None:
    dataset = read_dataset(hip_dataset)
    pool = {r.pair_id for r in dataset.of_split("train", "val")}
    held_out: list[str] = []
    for fold in range(4):
        data = PairData(str(hip_dataset), folds=FoldChoice(folds=4, fold=fold))
        train, val = data.records("train"), data.records("val")
        assert {r.subject for r in train}.isdisjoint(r.subject for r in val)
        assert {r.pair_id for r in (*train, *val)} == pool
        assert data.records("test") == dataset.of_split("test")
        held_out += [r.pair_id for r in val]
    assert sorted(held_out) == sorted(pool)


def test_shared_pixels_are_refused_before_training(hip_dataset: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    dataset = read_dataset(hip_dataset)
    first, other = dataset.records[0], dataset.records[-1]
    copied = (*dataset.records[:-1], replace(other, radiograph_sha256=first.radiograph_sha256))
    write_dataset(tmp_path, dataset.card, copied)
    with pytest.raises(SplitLeak, match=f"same pixels under two patients: {first.pair_id} .* and {other.pair_id}"):
        PairData(str(tmp_path)).train_dataloader()


def test_processes_share_the_draws_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from hierbmd.training import data

    whole = list(EpochShuffle(7, seed=4))
    shares = []
    for rank in range(2):
        monkeypatch.setattr(data, "_processes", lambda rank=rank: (rank, 2))
        sampler = EpochShuffle(7, seed=4)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1]) == 4
    assert {*shares[0], *shares[1]} == set(whole)
    assert shares[1][-1] == whole[0]
