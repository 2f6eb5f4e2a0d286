"""Training pairs as batches: read, normalised, augmented, and in an order that depends on seed and epoch alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from hierbmd.data.card import IntensityNormalisation
from hierbmd.data.pairs import PairRecord, TrainingPair
from hierbmd.errors import BadManifest
from hierbmd.io.dataset import Dataset, pair_path, read_dataset
from hierbmd.training.augment import Augmentation, make_augment

Batch = dict[str, Any]
"""A batch: "radiograph", "region", "mask" (B, 1, H, W) and "bones" (B, 2, H, W) float32, radiograph normalised, the
others in g/cm2 or 0 to 1; "bmd" and "bmd_at_pose" (B,) g/cm2; "pair_id" a list."""

TRAIN, VALIDATION = "train", "val"


class PairData(LightningDataModule):
    """The training and validation pairs of a prepared data set.

    Pairs are split by patient when the data set is prepared; this takes the splits "train" and "val" as they are.
    Errors: BadManifest when a patient is in two splits or there is nothing to train on, and what `read_dataset` raises.
    """

    def __init__(
        self,
        folder: str = "",
        batch_size: int = 8,
        workers: int = 0,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
        normalisation: IntensityNormalisation = IntensityNormalisation(),  # noqa: B008 (frozen)
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder, self.batch_size, self.workers, self.seed = folder, batch_size, workers, seed
        self.augmentation, self.normalisation = augmentation, normalisation
        self._dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        """The data set, read once."""
        if self._dataset is None:
            self._dataset = read_dataset(self.folder)
            _require_usable(self._dataset)
        return self._dataset

    def records(self, split: str) -> tuple[PairRecord, ...]:
        """The pairs of a split."""
        return self.dataset.of_split(split)

    def digest(self) -> str:
        """SHA-256 over the data set's card, table and the images of the pairs used here."""
        total = hashlib.sha256()
        names = ["dataset.json", "pairs.csv"]
        for path in [self.dataset.folder / name for name in names] + [
            pair_path(self.dataset.folder, r.pair_id) for s in (TRAIN, VALIDATION) for r in self.records(s)
        ]:
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented training pairs, shuffled anew each epoch."""
        pairs = _Pairs(self.dataset, self.records(TRAIN), self.normalisation, self.augmentation)
        return self._loader(pairs, EpochShuffle(len(pairs), self.seed))

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Validation pairs as they are, in order; nothing when the data set has none."""
        return self.plain_loader(VALIDATION) if self.records(VALIDATION) else []

    def plain_loader(self, split: str) -> DataLoader[Batch]:
        """The pairs of a split without augmentation, in order."""
        return self._loader(_Pairs(self.dataset, self.records(split), self.normalisation, None), None)

    def _loader(self, pairs: _Pairs, sampler: EpochShuffle | None) -> DataLoader[Batch]:
        return DataLoader(
            pairs,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


class EpochShuffle(Sampler[tuple[int, int]]):
    """A shuffled order with a seed for each draw, both a function of (seed, epoch): a resumed run draws the same.

    Lightning calls `set_epoch`.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.length)
        seeds = random.integers(0, 2**32, size=self.length)
        return iter([(int(i), int(s)) for i, s in zip(order, seeds, strict=True)])


class _Pairs(TorchDataset[Batch]):
    """Pairs in memory after the first reading; an item is asked for by its index, or by (index, seed) to augment it."""

    def __init__(
        self,
        dataset: Dataset,
        records: Sequence[PairRecord],
        normalisation: IntensityNormalisation,
        augmentation: Augmentation | None,
    ) -> None:
        self.dataset, self.records, self.normalisation = dataset, tuple(records), normalisation
        self.augment = None if augmentation is None else make_augment(augmentation)
        self.kept: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: int | tuple[int, int]) -> Batch:
        index, seed = draw if isinstance(draw, tuple) else (draw, None)
        if index not in self.kept:
            self.kept[index] = _images(self.dataset.load(self.records[index]), self.normalisation)
        images = dict(self.kept[index])
        if self.augment is not None and seed is not None:
            images = self.augment(images, seed)
        record = self.records[index]
        return {
            **{name: torch.from_numpy(image) for name, image in images.items()},
            "bmd": torch.tensor(record.bmd_g_cm2, dtype=torch.float32),
            "bmd_at_pose": torch.tensor(record.region_bmd_at_pose_g_cm2, dtype=torch.float32),
            "pair_id": record.pair_id,
        }


def _images(pair: TrainingPair, normalisation: IntensityNormalisation) -> dict[str, np.ndarray]:
    return {
        "radiograph": normalisation.apply(pair.radiograph)[None],
        "bones": pair.bones.astype(np.float32),
        "region": pair.region[None].astype(np.float32),
        "mask": pair.region_mask[None].astype(np.float32),
    }


def _require_usable(dataset: Dataset) -> None:
    where = dataset.folder / "pairs.csv"
    if not dataset.of_split(TRAIN):
        raise BadManifest("no training pairs", where=where, mend="prepare more patients, or check refusals.csv")
    splits: dict[str, set[str]] = {}
    for record in dataset.records:
        splits.setdefault(record.subject, set()).add(record.split)
    torn = sorted(subject for subject, names in splits.items() if len(names) > 1)
    if torn:
        raise BadManifest(f"patients in two splits: {', '.join(torn[:5])}", where=where, mend="split by patient")
