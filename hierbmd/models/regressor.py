"""The third stage's network: one BMD value from the density network's encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.novelty import region_means


class BmdNet(nn.Module):
    """A regression head on the encoder of a density network, which it carries along for the density image.

    Every encoder feature is averaged over the image and, `from_region`, over the measured region as the network sees
    it, and two linear layers turn the averages into a correction of the region's mean, in g/cm2. The last layer starts
    at zero, so that training starts from the second stage's readout. Without `from_readout` it gives the value by
    itself, and starts at `mean_g_cm2`, the training patients' mean. Without `image` the decoder, which then nothing
    asks, is left out: there is a value and no density image. ValueError when what is asked for needs that image.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        density: DensityNet,
        *,
        hidden: int = 32,
        from_readout: bool = True,
        from_region: bool = True,
        image: bool = True,
        mean_g_cm2: float = 0.0,
    ) -> None:
        super().__init__()
        if not image and (from_readout or from_region):
            raise ValueError("a head that reads the image or the region needs the image")
        self.settings = {"hidden": hidden, "from_readout": from_readout, "from_region": from_region, "image": image}
        self.density = density
        self.from_readout, self.from_region, self.image = from_readout, from_region, image
        pooled = (1 + from_region) * sum(density.generator.feature_channels)
        self.norm = nn.LayerNorm(pooled)
        self.hidden = nn.Linear(pooled, hidden)
        self.value = nn.Linear(hidden, 1)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.tensor(0.0 if from_readout else mean_g_cm2))
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def set_readout(self, slope: float, intercept: float) -> None:
        """Start from slope * region mean + intercept, the second stage's recalibrated readout."""
        self.scale.fill_(slope)
        self.offset.fill_(intercept)

    def forward(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput | None]:
        """BMD (B,) in g/cm2 and the density output, None without an image, of a radiograph (B, 1, H, W)."""
        return self.read(self.density.encode(radiograph), radiograph.shape[-2:])

    def read(self, features: list[Tensor], size: Sequence[int]) -> tuple[Tensor, DensityOutput | None]:
        """BMD (B,) in g/cm2 and the density output of `size` (H, W), None without an image, from encoder features."""
        output = self.density.decode(features, size) if self.image else None
        pooled = self.norm(self._pooled(features, output))
        value = self.offset + self.value(functional.leaky_relu(self.hidden(pooled), 0.1))[:, 0]
        if self.from_readout:
            assert output is not None
            value = value + self.scale * output.region_mean
        return value, output

    def _pooled(self, features: list[Tensor], output: DensityOutput | None) -> Tensor:
        means = [feature.mean((-2, -1)) for feature in features]
        if self.from_region:
            assert output is not None
            assert output.mask_logits is not None
            regions = region_means(features, torch.sigmoid(output.mask_logits))
            means = [mean for pair in zip(means, regions, strict=True) for mean in pair]
        return torch.cat(means, dim=1).float()
