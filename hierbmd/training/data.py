"""Training pairs as batches: read, normalised, augmented, and in an order that depends on seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from hierbmd.data.card import IntensityNormalisation
from hierbmd.data.pairs import PairRecord, TrainingPair
from hierbmd.data.splits import SplitMember, check_leaks, fold_strata, grouped_folds
from hierbmd.errors import BadConfig, BadManifest
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.options import option
from hierbmd.training.augment import Augmentation, make_augment
from hierbmd.training.unpaired import RadiographsAlone, files, read_unpaired

Batch = dict[str, Any]
"""A batch: "radiograph", "region", "mask" (B, 1, H, W) and "bones" (B, bones, H, W) float32, radiograph normalised, the
others in g/cm2 or 0 to 1; "further" (B, K, H, W) g/cm2 where the data set has further channels; "bmd" and "bmd_at_pose"
(B,) g/cm2; "registered" (B,) bool; "pair_id" a list."""

TRAIN, VALIDATION = "train", "val"
CONVERGED = "converged"
"""The outcome of a registration that can be relied on (hierbmd.registration.outcome)."""


@dataclass(frozen=True)
class FoldChoice:
    """Which fold of a patient-grouped k-fold this run holds out; test patients are in no fold."""

    folds: int = option("how many folds of the train and val patients; 0 keeps the data set's own splits", 0)
    fold: int = option("the fold that is held out, from 0", 0)
    repeat: int = option("which repeat: another repeat draws other folds", 0)
    seed: int = option("seed of the folds; the same for every member of an ensemble", 0)

    def __post_init__(self) -> None:
        if self.folds and not (0 <= self.fold < self.folds and self.repeat >= 0):
            raise BadConfig("no such fold", where=f"fold {self.fold}, repeat {self.repeat}", mend="counted from 0")


def is_registered(record: PairRecord) -> bool:
    """Whether every bone's registration converged, so that the targets lie where the radiograph shows the bones."""
    return all(outcome == CONVERGED for outcome in record.outcomes.values())


class PairData(LightningDataModule):
    """The training and validation pairs of a prepared data set.

    Pairs are split by patient when the data set is prepared; this takes the splits "train" and "val" as they are, or
    draws `folds` of their patients and holds one out. `alone` is set by a run whose training batches are to hold
    radiographs and nothing else, those in the folder `radiographs` among them. Errors: SplitLeak when a patient is in
    two splits or two patients share an image's pixels, BadManifest when there is nothing to train on, BadConfig for too
    many folds, and what `read_dataset` raises.
    """

    def __init__(
        self,
        folder: str = "",
        batch_size: int = 8,
        workers: int = 0,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
        normalisation: IntensityNormalisation = IntensityNormalisation(),  # noqa: B008 (frozen)
        folds: FoldChoice = FoldChoice(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folds, self.radiographs, self.alone = folds, "", False
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
        """The pairs of a split, or of the chosen fold's training and held-out patients."""
        return self._folded[split] if self.folds.folds and split in self._folded else self.dataset.of_split(split)

    def real(self, split: str) -> tuple[PairRecord, ...]:
        """The pairs of a split whose radiograph was taken, not simulated at another pose: what figures are made of."""
        return tuple(record for record in self.records(split) if not record.synthetic)

    def counts(self) -> dict[str, int]:
        """How many pairs and patients there are to train and to validate on, by the names of a card."""
        splits = {split: self.records(split) for split in (TRAIN, VALIDATION)}
        told = {f"{split}_pairs": len(records) for split, records in splits.items()}
        return told | {f"{split}_patients": len({r.subject for r in records}) for split, records in splits.items()}

    @cached_property
    def _folded(self) -> dict[str, tuple[PairRecord, ...]]:
        records = self.dataset.of_split(TRAIN, VALIDATION)
        bmd = {r.subject: r.bmd_g_cm2 for r in records}
        drawn = grouped_folds(
            bmd,
            self.folds.folds,
            repeats=self.folds.repeat + 1,
            seed=self.folds.seed,
            strata=fold_strata(bmd, self.folds.folds),
        )
        chosen = drawn[self.folds.repeat * self.folds.folds + self.folds.fold]
        sides = {TRAIN: set(chosen.train), VALIDATION: set(chosen.held_out)}
        chosen_records = {split: [r for r in records if r.subject in names] for split, names in sides.items()}
        held_out = [r for r in chosen_records[VALIDATION] if not r.synthetic]
        return {TRAIN: tuple(chosen_records[TRAIN]), VALIDATION: tuple(held_out)}

    def digest(self) -> str:
        """SHA-256 over the data set's card, table and the images of the pairs used here."""
        return self.dataset.digest(TRAIN, VALIDATION, also=files(self.radiographs) if self.radiographs else ())

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented training pairs, or radiographs alone, shuffled anew each epoch."""
        if self.alone:
            images = RadiographsAlone(self._radiographs_alone(), make_augment(self.augmentation))
            return self._loader(images, EpochShuffle(len(images), self.seed))
        pairs = _Pairs(self.dataset, self.records(TRAIN), self.normalisation, self.augmentation)
        return self._loader(pairs, EpochShuffle(len(pairs), self.seed))

    def _radiographs_alone(self) -> list[tuple[str, NDArray[np.float32]]]:
        """Names and normalised half images of the training pairs and of the folder of radiographs."""
        held_out = [r for r in self.dataset.records if r not in self.records(TRAIN)]
        own = [(r.pair_id, self.dataset.load(r).radiograph) for r in self.records(TRAIN)]
        if self.radiographs:
            sides = read_unpaired(self.radiographs, self.dataset.card, held_out)
            own += [(side.name, side.pixels) for side in sides]
        return [(name, self.normalisation.apply(pixels)) for name, pixels in own]

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Validation pairs as they are, in order; nothing when the data set has none."""
        return self.plain_loader(VALIDATION) if self.records(VALIDATION) else []

    def plain_loader(self, split: str) -> DataLoader[Batch]:
        """The pairs of a split without augmentation, in order, none of them synthetic."""
        return self.loader_of(self.real(split))

    def loader_of(self, records: Sequence[PairRecord]) -> DataLoader[Batch]:
        """Given pairs without augmentation, in order."""
        return self._loader(_Pairs(self.dataset, records, self.normalisation, None), None)

    def _loader(self, pairs: TorchDataset[Batch], sampler: EpochShuffle | None) -> DataLoader[Batch]:
        return DataLoader(
            pairs,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


class EpochShuffle(Sampler[tuple[int, int]]):
    """A shuffled order with a seed for each draw, both a function of (seed, epoch): a resumed run draws the same.

    Lightning calls `set_epoch`. Of several processes each takes every n-th draw; the first few are drawn again where
    the pairs do not share out evenly, so that every process makes as many steps.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.length / _processes()[1])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.length)
        seeds = random.integers(0, 2**32, size=self.length)
        draws = [(int(i), int(s)) for i, s in zip(order, seeds, strict=True)]
        rank, processes = _processes()
        draws += draws[: len(self) * processes - len(draws)]
        return iter(draws[rank::processes])


def _processes() -> tuple[int, int]:
    """This process's rank and how many train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


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
            "registered": torch.tensor(is_registered(record)),
            "bmd_at_pose": torch.tensor(record.region_bmd_at_pose_g_cm2, dtype=torch.float32),
            "pair_id": record.pair_id,
        }


def _images(pair: TrainingPair, normalisation: IntensityNormalisation) -> dict[str, np.ndarray]:
    return {
        "radiograph": normalisation.apply(pair.radiograph)[None],
        "bones": pair.bones.astype(np.float32),
        "region": pair.region[None].astype(np.float32),
        "mask": pair.region_mask[None].astype(np.float32),
        **({} if pair.further is None else {"further": pair.further.astype(np.float32)}),
    }


def bone_images(batch: Batch) -> torch.Tensor:
    """Every channel of stage 1, (B, C, H, W) g/cm2: the bones, then the further ones where there are any."""
    return torch.cat([batch["bones"], batch["further"]], dim=1) if "further" in batch else batch["bones"]


def _require_usable(dataset: Dataset) -> None:
    where = dataset.folder / "pairs.csv"
    if not dataset.of_split(TRAIN):
        raise BadManifest("no training pairs", where=where, mend="prepare more patients, or check refusals.csv")
    check_leaks([SplitMember(r.pair_id, r.subject, r.split, r.radiograph_sha256) for r in dataset.records])
