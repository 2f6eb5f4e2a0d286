"""The density network: a generator with one head channel a structure, and the areal densities that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hierbmd.models.generator import Generator


class DensityOutput(NamedTuple):
    """What the density network gives for a batch.

    `areal` (B, C, H, W) is areal density in g/cm2, one channel a structure; `mask_logits` (B, 1, H, W) says where the
    measured region is, None when the network does not tell.
    """

    areal: Tensor
    mask_logits: Tensor | None

    def of(self, chosen: Tensor) -> DensityOutput:
        """Of the chosen images of the batch, (B,) bool."""
        return DensityOutput(self.areal[chosen], None if self.mask_logits is None else self.mask_logits[chosen])

    def first(self, channels: int | None) -> DensityOutput:
        """The first channels, all of them for None."""
        return DensityOutput(self.areal[:, :channels], self.mask_logits)

    @property
    def region_mean(self) -> Tensor:
        """The mean of the first channel over the region, (B,), g/cm2: its sum over the region's expected area."""
        assert self.mask_logits is not None
        inside = torch.sigmoid(self.mask_logits[:, 0])
        return self.areal[:, 0].sum((-2, -1)) / inside.sum((-2, -1)).clamp_min(1e-3)


class DensityNet(nn.Module):
    """Radiograph (B, 1, H, W), normalised, to areal density of the named `structures`, in g/cm2.

    With `mask`, one more channel says where the measured region is, and the densities are the head's times its
    probability: a region is a part of a bone, so a network that knows the bone's density has only the part to learn.
    The region has to be known apart from its density, because a threshold on density would drop more of a bone the
    thinner it is, and read osteoporosis too high.
    """

    def __init__(self, generator: Generator, structures: Sequence[str], *, mask: bool = False) -> None:
        super().__init__()
        self.generator = generator
        self.structures = tuple(structures)
        self.head = nn.Conv2d(generator.out_channels, len(self.structures), kernel_size=1)
        self.mask_head = nn.Conv2d(generator.out_channels, 1, kernel_size=1) if mask else None

    def encode(self, radiograph: Tensor) -> list[Tensor]:
        """The encoder's features, finest first, of a radiograph padded to the generator's multiple."""
        return self.generator.encode(_padded(radiograph, self.generator.multiple_px))

    def decode(self, features: list[Tensor], size: Sequence[int]) -> DensityOutput:
        """Areal densities and mask logits of `size` (H, W) from features."""
        image = self.generator.decode(features)[..., : size[0], : size[1]]
        # The heads run in float32: bf16 has two to three digits, a BMD needs more.
        image = image.float()
        if self.mask_head is None:
            return DensityOutput(self.head(image), None)
        logits = self.mask_head(image)
        return DensityOutput(self.head(image) * torch.sigmoid(logits), logits)

    def forward(self, radiograph: Tensor) -> DensityOutput:
        """(B, 1, H, W) to areal densities (B, C, H, W) in g/cm2 and the region's logits."""
        return self.decode(self.encode(radiograph), radiograph.shape[-2:])

    def freeze_decoder(self) -> None:
        """Leave training what only the image needs: the decoder and the heads."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith("generator.") and not self.generator.decodes(name[10:]))

    def carry_from(self, source: DensityNet, *, channels: Sequence[str]) -> None:
        """Start from another stage's network: the whole generator, and for each structure the head of the same name.

        A structure that `source` does not know starts from the sum of its `channels` (the hip's region is a part of the
        femur, the spine's of four vertebrae); without them the heads start afresh. RuntimeError when the generators
        differ.
        """
        self.generator.load_state_dict(source.generator.state_dict())
        if not channels:
            return
        with torch.no_grad():
            for i, name in enumerate(self.structures):
                names = [name] if name in source.structures else channels
                rows = [source.structures.index(one) for one in names]
                self.head.weight[i] = source.head.weight[rows].sum(0)
                self.head.bias[i] = source.head.bias[rows].sum(0)  # type: ignore[index]


def _padded(image: Tensor, multiple_px: int) -> Tensor:
    height, width = image.shape[-2:]
    below, right = -height % multiple_px, -width % multiple_px
    return functional.pad(image, (0, right, 0, below), mode="replicate") if below or right else image
