"""What an image-to-image generator is: an encoder, whose features the regression stage reads, and a decoder."""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor, nn


class Generator(nn.Module, abc.ABC):
    """A trunk from a radiograph to a feature image of the same size; a head for each stage's channels sits on it.

    `settings` are the constructor's arguments, so that a card can say how to build it again; `feature_channels` are
    the channels of each encoder feature, finest first, `out_channels` those of the feature image, and `multiple_px` the
    number that height and width must be a multiple of. `decoder` names the modules that only `decode` uses.
    """

    settings: dict[str, Any]
    decoder: tuple[str, ...]
    feature_channels: tuple[int, ...]
    out_channels: int
    multiple_px: int

    @abc.abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of an image (B, 1, H, W), finest first, each (B, feature_channels[i], h_i, w_i)."""

    @abc.abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """The feature image (B, out_channels, H, W) from the encoder's features."""

    def decodes(self, parameter: str) -> bool:
        """Whether a parameter, by its name in this module, is the decoder's alone."""
        return parameter.split(".", maxsplit=1)[0] in self.decoder

    def forward(self, image: Tensor) -> Tensor:
        """Decode what was encoded: (B, 1, H, W) to (B, out_channels, H, W)."""
        return self.decode(self.encode(image))


def norm_of(name: str, channels: int) -> tuple[str, dict[str, Any]]:
    """MONAI's (name, arguments) of a normalisation: "instance", "batch", or "group" (groups of eight)."""
    if name == "group":
        return "group", {"num_groups": max(1, channels // 8), "num_channels": channels}
    return name, {"affine": True} if name == "instance" else {}
