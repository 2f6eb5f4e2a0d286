"""One network, several skeletal sites: a BMD value and a category of each from one radiograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hierbmd.errors import WrongWeights
from hierbmd.models.generator import Generator
from hierbmd.models.registry import GENERATORS, build_generator


class SiteOutput(NamedTuple):
    """What the network gives for a batch: BMD (B, S) in g/cm2 of S sites, and the logits (B, S, C) of C categories."""

    bmd_g_cm2: Tensor
    category_logits: Tensor


class MultiOutputNet(nn.Module):
    """A shared encoder, its features pooled, and for each site a regression and a classification output.

    Every feature of the encoder is averaged over the image, and once more with weights that a 1 x 1 convolution learns:
    bone takes up a small part of a lumbar radiograph. A BMD is `mean` + `sd` * output, the training patients' own, so
    that an untrained network says their mean. ValueError when the numbers of sites differ.
    """

    mean_g_cm2: Tensor
    sd_g_cm2: Tensor

    def __init__(
        self,
        encoder: Generator,
        *,
        mean_g_cm2: Sequence[float],
        sd_g_cm2: Sequence[float],
        categories: int = 3,
        hidden: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(mean_g_cm2) != len(sd_g_cm2):
            raise ValueError("a mean and an SD for every site")
        self.sites, self.categories = len(mean_g_cm2), categories
        self.settings = {"categories": categories, "hidden": hidden, "dropout": dropout}
        self.encoder = encoder
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(not encoder.decodes(name))
        channels = encoder.feature_channels
        self.attention = nn.ModuleList(nn.Conv2d(n, 1, kernel_size=1) for n in channels)
        self.norm = nn.LayerNorm(2 * sum(channels))
        self.hidden = nn.Linear(2 * sum(channels), hidden)
        self.dropout = nn.Dropout(dropout)
        self.value = nn.Linear(hidden, self.sites)
        self.category = nn.Linear(hidden, self.sites * categories)
        self.register_buffer("mean_g_cm2", torch.tensor(mean_g_cm2, dtype=torch.float32))
        self.register_buffer("sd_g_cm2", torch.tensor(sd_g_cm2, dtype=torch.float32))
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, radiograph: Tensor) -> SiteOutput:
        """Of a normalised radiograph (B, 1, H, W)."""
        multiple_px = self.encoder.multiple_px
        below, right = -radiograph.shape[-2] % multiple_px, -radiograph.shape[-1] % multiple_px
        features = self.encoder.encode(functional.pad(radiograph, (0, right, 0, below), mode="replicate"))
        pooled = self.norm(
            torch.cat([part for pair in zip(features, self.attention, strict=True) for part in _pool(*pair)], 1)
        )
        hidden = self.dropout(functional.leaky_relu(self.hidden(pooled), 0.1))
        bmd_g_cm2 = self.mean_g_cm2 + self.sd_g_cm2 * self.value(hidden)
        return SiteOutput(bmd_g_cm2, self.category(hidden).unflatten(1, (self.sites, self.categories)))

    def exported(self) -> dict[str, Tensor]:
        """The tensors of a model's file: all but the decoder's, which nothing asks."""
        return {name: tensor for name, tensor in self.state_dict().items() if not self._idle(name)}

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors of a file; WrongWeights names what is missing, misshapen or not of this network."""
        own = self.state_dict()
        wanted = {name for name in own if not self._idle(name)}
        wrong = sorted(wanted ^ set(tensors)) + [n for n in wanted & set(tensors) if own[n].shape != tensors[n].shape]
        if wrong:
            raise WrongWeights("the tensors do not fit the card's network", where=", ".join(wrong[:5]))
        self.load_state_dict({**own, **tensors})

    def _idle(self, name: str) -> bool:
        return name.startswith("encoder.") and self.encoder.decodes(name.removeprefix("encoder."))


def _pool(feature: Tensor, attention: nn.Module) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(attention(feature).flatten(2), dim=2)
    return feature.mean((-2, -1)), (feature.flatten(2) * weights).sum(2)


def encoder_card(encoder: Generator) -> dict[str, Any]:
    """How to build an encoder again, as plain data for a card."""
    return {"name": type(encoder).__name__, "settings": encoder.settings}


def build_encoder(name: str, settings: Mapping[str, Any]) -> Generator:
    """A backbone of the registry with fresh weights; WrongWeights when it is not listed or the settings do not fit."""
    return build_generator({"name": name, "settings": dict(settings)})


BACKBONES = tuple(GENERATORS)
"""Which encoders there are: those of the stages."""
