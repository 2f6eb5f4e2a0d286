"""MedNeXt: ConvNeXt blocks in encoder and decoder, from MONAI."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import SubpixelUpsample
from monai.networks.nets.mednext import MedNeXt as MonaiMedNeXt
from torch import Tensor, nn

from hierbmd.models.generator import Generator


class MedNeXt(Generator):
    """MedNeXt (Roy et al., MICCAI 2023, arXiv 2303.09975) in 2D, with residual down- and up-sampling blocks.

    Level i has `width` * 2**i channels and `blocks[i]` ConvNeXt blocks, each a depth-wise `kernel` x `kernel`
    convolution and an inverted bottleneck of `expansion`; the last level is the bottleneck. `stem_stride` 2 or 4 works
    on patches of that size (ConvNeXt's patch stem) and returns to full resolution by sub-pixel convolution.
    `response_norm` switches ConvNeXt V2's global response normalisation on.
    """

    decoder = ("up", "finish")

    def __init__(
        self,
        width: int = 32,
        blocks: Sequence[int] = (2, 2, 2, 2, 2),
        stem_stride: int = 2,
        expansion: int = 2,
        kernel: int = 7,
        response_norm: bool = False,
    ) -> None:
        super().__init__()
        depth = len(blocks) - 1
        self.settings = {
            "width": width,
            "blocks": list(blocks),
            "stem_stride": stem_stride,
            "expansion": expansion,
            "kernel": kernel,
            "response_norm": response_norm,
        }
        self.feature_channels = tuple(width * 2**i for i in range(depth + 1))
        self.out_channels = width
        self.multiple_px = stem_stride * 2**depth
        net = MonaiMedNeXt(
            spatial_dims=2,
            init_filters=width,
            encoder_expansion_ratio=expansion,
            decoder_expansion_ratio=expansion,
            bottleneck_expansion_ratio=expansion,
            kernel_size=kernel,
            use_residual_connection=True,
            blocks_down=tuple(blocks[:-1]),
            blocks_bottleneck=blocks[-1],
            blocks_up=tuple(reversed(blocks[:-1])),
            global_resp_norm=response_norm,
        )
        self.stem = nn.Conv2d(1, width, kernel_size=stem_stride, stride=stem_stride)
        self.levels = nn.ModuleList([*net.enc_stages, net.bottleneck])
        self.down = net.down_blocks
        self.up = nn.ModuleList(nn.ModuleList(pair) for pair in zip(net.up_blocks, net.dec_stages, strict=True))
        self.finish = nn.Identity() if stem_stride == 1 else SubpixelUpsample(2, width, width, stem_stride)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of an image (B, 1, H, W), finest first."""
        features: list[Tensor] = []
        level = self.stem(image)
        for depth, stage in enumerate(self.levels):
            level = stage(level if depth == 0 else self.down[depth - 1](level))
            features.append(level)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """The feature image (B, width, H, W) from the encoder's features."""
        level = features[-1]
        for skip, pair in zip(reversed(features[:-1]), self.up, strict=True):
            up, stage = pair.children()
            level = stage(up(level) + skip)
        return torch.as_tensor(self.finish(level))
