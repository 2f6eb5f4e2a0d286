"""A U-Net of any depth from MONAI's blocks, with an optional strided stem for speed on a CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, SubpixelUpsample
from monai.networks.nets.basic_unet import TwoConv, UpCat
from torch import Tensor, nn

from hierbmd.models.generator import Generator, norm_of

_ACTIVATION = ("leakyrelu", {"negative_slope": 0.1, "inplace": True})


class UNet(Generator):
    """U-Net (Ronneberger et al., MICCAI 2015): two convolutions a level, max-pooling down, transposed convolution up.

    `widths` are the channels of each level; `stem_stride` 2 works at half resolution inside and returns to full
    resolution by sub-pixel convolution with half the channels (a fifth of the cost); `norm` is "instance",
    "batch" or "group".
    """

    decoder = ("up", "finish")

    def __init__(
        self, widths: Sequence[int] = (16, 32, 64, 128), stem_stride: int = 1, norm: str = "batch", dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = tuple(widths)
        self.settings = {"widths": list(widths), "stem_stride": stem_stride, "norm": norm, "dropout": dropout}
        self.feature_channels = widths
        self.out_channels = widths[0] if stem_stride == 1 else max(widths[0] // 2, 4)
        self.multiple_px = stem_stride * 2 ** (len(widths) - 1)
        first = widths[0]
        self.stem = nn.Identity() if stem_stride == 1 else _stem(first, stem_stride, norm)
        inputs = (1 if stem_stride == 1 else first, *widths[:-1])
        self.down = nn.ModuleList(
            TwoConv(2, a, b, _ACTIVATION, norm_of(norm, b), bias=False, dropout=dropout)
            for a, b in zip(inputs, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            UpCat(2, b, a, a, _ACTIVATION, norm_of(norm, a), bias=False, dropout=dropout, halves=True)
            for a, b in itertools.pairwise(widths)
        )
        self.finish = nn.Identity() if stem_stride == 1 else SubpixelUpsample(2, first, self.out_channels, stem_stride)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of an image (B, 1, H, W), finest first."""
        features: list[Tensor] = []
        level = self.stem(image)
        for depth, block in enumerate(self.down):
            level = block(level if depth == 0 else self.pool(level))
            features.append(level)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """The feature image (B, out_channels, H, W) from the encoder's features."""
        level = features[-1]
        for skip, block in zip(reversed(features[:-1]), reversed(self.up), strict=True):
            level = block(level, skip)
        return torch.as_tensor(self.finish(level))


def _stem(channels: int, stride: int, norm: str) -> nn.Module:
    return Convolution(
        2,
        1,
        channels,
        strides=stride,
        kernel_size=2 * stride - 1 + stride % 2,
        act=_ACTIVATION,
        norm=norm_of(norm, channels),
        bias=False,
    )
