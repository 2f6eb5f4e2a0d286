"""What a fold's network learns from: radiographs with the truth of two sites, and the loss over what is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from hierbmd.baselines.lumbar.options import SETTINGS, Options
from hierbmd.baselines.lumbar.targets import CATEGORIES, Truth
from hierbmd.data.card import IntensityNormalisation
from hierbmd.data.density import Reference
from hierbmd.data.pairs import PairRecord
from hierbmd.errors import BadManifest
from hierbmd.io.dataset import Dataset
from hierbmd.models.multi_output import MultiOutputNet, build_encoder
from hierbmd.training.augment import Augmentation, make_augment
from hierbmd.training.data import EpochShuffle
from hierbmd.training.loop import Learner
from hierbmd.training.unpaired import RadiographsAlone

Augment = Callable[[dict[str, Any], int], dict[str, Any]]

_LEAST_SD_G_CM2 = 0.01
_HUBER_SD = 1.0
"""Errors beyond this many SDs of the training patients count linearly."""


@dataclass(frozen=True)
class Examples:
    """Radiographs by pair id, normalised (H, W), with BMD (n, S) in g/cm2 and categories (n, S), -1 unknown."""

    images: Sequence[tuple[str, NDArray[np.float32]]]
    bmd_g_cm2: NDArray[np.float64]
    categories: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        records: Sequence[PairRecord],
        known: Mapping[str, Truth],
        references: Sequence[Reference],
    ) -> Examples:
        """The examples of records, in order."""
        normalised = IntensityNormalisation()
        images = [(r.pair_id, normalised.apply(dataset.load(r).radiograph)) for r in records]
        bmd = np.array([known[r.subject].bmd_g_cm2 for r in records])
        return cls(images, bmd, np.array([known[r.subject].categories(references) for r in records]))


class SiteLearner(Learner):
    """The network with its loss over what is known: smooth L1 of values in SDs, cross-entropy of categories."""

    def __init__(self, network: MultiOutputNet, category_weight: float) -> None:
        super().__init__()
        self.network, self.category_weight = network, category_weight

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The losses of a batch of `batches`."""
        output = self.network(batch["radiograph"])
        known = batch["category"] >= 0
        off_sd = (output.bmd_g_cm2 - batch["bmd"].nan_to_num()) / self.network.sd_g_cm2
        off_sd = off_sd[known]
        value = functional.smooth_l1_loss(off_sd, torch.zeros_like(off_sd), beta=_HUBER_SD)
        category = functional.cross_entropy(output.category_logits[known], batch["category"][known])
        return {"value": value, "category": category, "loss": value + self.category_weight * category}


def fresh_network(examples: Examples, options: Options, *, seed: int) -> MultiOutputNet:
    """A network that says the mean of its training examples; BadManifest where a site has fewer than two of them."""
    known = np.isfinite(examples.bmd_g_cm2)
    if known.sum(axis=0).min() < 2:
        raise BadManifest("a fold without two BMD values of a site to learn from", mend="fewer folds, more patients")
    torch.manual_seed(seed)
    return MultiOutputNet(
        build_encoder(options.backbone, SETTINGS[options.backbone]),
        mean_g_cm2=np.nanmean(examples.bmd_g_cm2, axis=0).tolist(),
        sd_g_cm2=np.maximum(np.nanstd(examples.bmd_g_cm2, axis=0), _LEAST_SD_G_CM2).tolist(),
        categories=len(CATEGORIES),
    )


def batches(examples: Examples, options: Options, *, seed: int) -> DataLoader[dict[str, Any]]:
    """Augmented training batches, in an order that the seed and the epoch decide."""
    data = _Labelled(examples, make_augment(Augmentation()) if options.augment else _as_it_is)
    # The last batch may be small, and batch normalisation needs two images.
    lonely = len(data) % options.batch_size == 1 and len(data) > 1
    return DataLoader(data, batch_size=options.batch_size, sampler=EpochShuffle(len(data), seed), drop_last=lonely)


@torch.inference_mode()
def read(network: MultiOutputNet, images: Sequence[NDArray[np.float32]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """BMD (n, S) in g/cm2 and the categories' probabilities (n, S, C) of normalised images (H, W), one by one."""
    network.eval()
    outputs = [network(torch.from_numpy(image)[None, None]) for image in images]
    bmd = torch.cat([one.bmd_g_cm2 for one in outputs])
    shares = torch.cat([one.category_logits for one in outputs]).softmax(-1)
    return bmd.double().clamp_min(0.0).numpy(), shares.double().numpy()


def _as_it_is(sample: dict[str, Any], seed: int) -> dict[str, Any]:
    return sample


class _Labelled(TorchDataset[dict[str, Any]]):
    """Augmented radiographs with their truth; an item is asked for by (index, seed)."""

    def __init__(self, examples: Examples, augment: Augment) -> None:
        self.examples = examples
        self.images = RadiographsAlone(examples.images, augment)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        bmd = torch.from_numpy(self.examples.bmd_g_cm2[draw[0]].astype(np.float32))
        return {**self.images[draw], "bmd": bmd, "category": torch.from_numpy(self.examples.categories[draw[0]])}
