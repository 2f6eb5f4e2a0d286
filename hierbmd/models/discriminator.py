"""The adversary: patch discriminators on the image at several scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn
from torch.nn import functional

from hierbmd.options import option

_ACTIVATION = ("leakyrelu", {"negative_slope": 0.2})


@dataclass(frozen=True)
class DiscriminatorOptions:
    """The discriminator's size; the published recipe is 2 scales, 3 layers, 64 filters."""

    scales: int = option("how many scales, each half of the one before", 2)
    layers: int = option("strided layers a scale", 3)
    filters: int = option("channels of the first layer", 64)


class MultiScaleDiscriminator(nn.Module):
    """PatchGAN on (radiograph, virtual X-ray) at `scales` resolutions, the same layers at each (pix2pixHD's scheme).

    Wang et al., CVPR 2018, arXiv 1711.11585: instance norm, LeakyReLU 0.2, average pooling between scales. MONAI's
    MultiScalePatchDiscriminator stacks 3, 6, ... layers on the full image instead, which is another discriminator.
    The virtual X-ray is the sum over structures, so that one discriminator serves every stage.
    """

    def __init__(self, options: DiscriminatorOptions) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(
                spatial_dims=2,
                channels=options.filters,
                in_channels=2,
                num_layers_d=options.layers,
                activation=_ACTIVATION,
                norm="instance",
                last_conv_kernel_size=1,
            )
            for _ in range(options.scales)
        )

    def forward(self, radiograph: Tensor, areal: Tensor) -> list[list[Tensor]]:
        """Per scale, the layers' features with the patch scores last; inputs (B, 1, H, W) and (B, C, H, W)."""
        image = torch.cat([radiograph, areal.sum(dim=1, keepdim=True)], dim=1)
        outputs = []
        for scale in self.scales:
            outputs.append(scale(image))
            image = functional.avg_pool2d(image, kernel_size=3, stride=2, padding=1, count_include_pad=False)
        return outputs
