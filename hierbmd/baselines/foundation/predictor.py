"""A trained foundation model as every model is used: half image in, BMD and class probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierbmd.baselines.foundation import NAME
from hierbmd.baselines.foundation.base import (
    CONFIG_FILE,
    empty_base,
    load_base,
    locate,
    read_base,
    require_extra,
    require_same,
)
from hierbmd.baselines.foundation.images import ImageProcessing
from hierbmd.baselines.foundation.network import CLASSES, FoundationNet, LoraSettings
from hierbmd.data.card import BASELINE, ModelCard, require_matching
from hierbmd.data.density import Bmd
from hierbmd.data.halves import Half
from hierbmd.errors import BadConfig, WrongWeights
from hierbmd.io.weights import read_weights
from hierbmd.predict import Prediction, acquisition_flags

BASE_FOLDER = "backbone"
"""Where a run keeps a base model that came from nowhere else, and where one that has moved may be put."""


@dataclass(frozen=True)
class FoundationPredictor:
    """A foundation model with its card."""

    card: ModelCard
    net: FoundationNet

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image (H, W) on the card's frame: a BMD, and the probability of each class as a finding."""
        with torch.inference_mode():
            logits, bmd = self.net(self.images([half.pixels]))
        value = max(float(bmd[0]), 0.0)
        assert self.card.readout is not None
        interval = self.card.readout.interval(value)
        read = Bmd(value, self.card.region, half.side, self.card.material, interval)
        shares = torch.softmax(logits[0].double(), 0).tolist()
        found = {kind.value: share for kind, share in zip(CLASSES, shares, strict=True)}
        flags = acquisition_flags(half, self.card)
        note = self.card.network["base"]["note"]
        return Prediction(
            None,
            read,
            None,
            (*flags, f"backbone: {note}") if note else flags,
            findings={"class_probabilities": found, "reference": self.card.training["reference"]},
        )

    def images(self, pixels: Sequence[NDArray[np.float32]]) -> Tensor:
        """Half images (H, W) as the network's input (B, 1, H, W)."""
        return torch.from_numpy(np.stack([self.card.normalisation.apply(one) for one in pixels]))[:, None]


def load_foundation(folder: Path) -> FoundationPredictor:
    """As `hierbmd.baselines.foundation.load`."""
    require_extra()
    folder = Path(folder)
    tensors, card = read_weights(folder)
    require_matching(card, where=folder, stage=BASELINE, baseline=NAME)
    try:
        stored, strategy = card.network["base"], card.network["strategy"]
        processing = ImageProcessing.from_json(stored["processing"])
        lora = LoraSettings(**{**(card.network["lora"] or {})})
    except (KeyError, TypeError) as error:
        raise WrongWeights(f"not a foundation model's card ({error!r})", where=folder, mend="train it again") from None
    backbone = empty_base(stored["config"]) if strategy == "full" else _same_base(folder, stored)
    net = FoundationNet(backbone, processing, strategy, lora)
    net.load(tensors)
    return FoundationPredictor(card, net.eval())


def _same_base(folder: Path, stored: dict[str, Any]) -> torch.nn.Module:
    """The base model that the adapters and the head are for: beside them, or where the card says."""
    own = folder / BASE_FOLDER
    try:
        place = own if (own / CONFIG_FILE).is_file() or not stored["source"] else locate(stored["source"])
    except BadConfig as error:
        raise WrongWeights(
            f"the base model {stored['name']} is not where it was", where=stored["source"], mend=f"put it at {own}"
        ) from error
    base = read_base(place, name=stored["name"], aspect=stored["processing"]["aspect"])
    require_same(base, stored)
    return load_base(base)
