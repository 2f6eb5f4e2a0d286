"""HRNet: streams of several resolutions kept side by side and exchanged, the backbone of the published recipe."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from monai.networks.blocks import Convolution, SubpixelUpsample
from monai.networks.nets.resnet import ResNetBlock
from torch import Tensor, nn
from torch.nn import functional

from hierbmd.models.generator import Generator, norm_of

_RELU = ("relu", {"inplace": True})


class HRNet(Generator):
    """High-resolution network (Wang et al., TPAMI 2021, arXiv 1908.07919) of residual blocks from MONAI.

    Stream i has `width` * 2**i channels at 1 / (stem_stride * 2**i) of the input's resolution. Stage s holds
    `modules[s]` modules of s + 1 streams, each of `blocks` residual blocks a stream and an exchange between all.
    W18, W32 and W48 are widths 18, 32 and 48 with modules (1, 1, 4, 3). The decoder brings every stream to the finest,
    mixes them by a 1x1 convolution and returns to full resolution by sub-pixel convolution.
    """

    decoder = ("mix", "finish")

    def __init__(
        self,
        width: int = 18,
        modules: Sequence[int] = (1, 1, 4, 3),
        blocks: int = 4,
        stem_stride: int = 4,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        widths = tuple(width * 2**i for i in range(len(modules)))
        self.settings = {
            "width": width,
            "modules": list(modules),
            "blocks": blocks,
            "stem_stride": stem_stride,
            "norm": norm,
        }
        self.feature_channels = widths
        self.out_channels = width
        self.multiple_px = stem_stride * 2 ** (len(modules) - 1)
        self.stem = _stem(width, stem_stride, norm)
        self.grow = nn.ModuleList(_conv(a, b, norm, stride=2) for a, b in itertools.pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Module(widths[: s + 1], blocks, norm) for _ in range(n))) for s, n in enumerate(modules)
        )
        self.mix = _conv(sum(widths), width, norm, kernel=1)
        self.finish = nn.Identity() if stem_stride == 1 else SubpixelUpsample(2, width, width, stem_stride)

    def encode(self, image: Tensor) -> list[Tensor]:
        """The streams at the end, finest first."""
        streams = [self.stem(image)]
        for depth, stage in enumerate(self.stages):
            if depth > 0:
                streams = [*streams, self.grow[depth - 1](streams[-1])]
            streams = stage(streams)
        return streams

    def decode(self, features: list[Tensor]) -> Tensor:
        """The feature image (B, width, H, W) from the streams."""
        size = features[0].shape[-2:]
        raised = [features[0], *(_resize(stream, size) for stream in features[1:])]
        return torch.as_tensor(self.finish(self.mix(torch.cat(raised, dim=1))))


class _Module(nn.Module):
    """Residual blocks in every stream, then every stream receives all others."""

    def __init__(self, widths: Sequence[int], blocks: int, norm: str) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(*(ResNetBlock(w, w, spatial_dims=2, act=_RELU, norm=norm_of(norm, w)) for _ in range(blocks)))
            for w in widths
        )
        self.exchange = nn.ModuleList(
            nn.ModuleList(_path(a, b, widths, norm) for a in range(len(widths))) for b in range(len(widths))
        )

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        worked = [stream(x) for stream, x in zip(self.streams, streams, strict=True)]
        mixed = []
        for target, paths in zip(worked, cast(Iterable[Iterable[nn.Module]], self.exchange), strict=True):
            given = [_resize(path(x), target.shape[-2:]) for path, x in zip(paths, worked, strict=True)]
            mixed.append(functional.relu(torch.stack(given).sum(dim=0)))
        return mixed


def _path(source: int, target: int, widths: Sequence[int], norm: str) -> nn.Module:
    """From stream `source` to the channels of `target`: strided 3x3 convolutions down, a 1x1 convolution up."""
    if source == target:
        return nn.Identity()
    if source > target:
        return _conv(widths[source], widths[target], norm, kernel=1, act=False)
    steps = range(source, target)
    return nn.Sequential(*(_conv(widths[i], widths[i + 1], norm, stride=2, act=i + 1 < target) for i in steps))


def _stem(width: int, stride: int, norm: str) -> nn.Module:
    layers = [_conv(1, width, norm, stride=min(stride, 2))]
    while stride > 2:
        stride //= 2
        layers.append(_conv(width, width, norm, stride=2))
    return nn.Sequential(*layers)


def _conv(a: int, b: int, norm: str, *, stride: int = 1, kernel: int = 3, act: bool = True) -> nn.Module:
    return Convolution(
        2, a, b, strides=stride, kernel_size=kernel, act=_RELU if act else None, norm=norm_of(norm, b), bias=False
    )


def _resize(stream: Tensor, size: Sequence[int]) -> Tensor:
    if stream.shape[-2:] == tuple(size):
        return stream
    return functional.interpolate(stream, size=tuple(size), mode="bilinear", align_corners=False)
