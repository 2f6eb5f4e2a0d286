"""How far an image's encoder features lie from those of the training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

NOVELTY = "novelty."


def feature_means(features: Sequence[Tensor]) -> Tensor:
    """The encoder's features (B, C_i, h_i, w_i) averaged over the image, side by side, (B, sum of C_i) float32."""
    return torch.cat([feature.float().mean((-2, -1)) for feature in features], dim=1)


def region_means(features: Sequence[Tensor], inside: Tensor) -> list[Tensor]:
    """The encoder's features (B, C_i, h_i, w_i) averaged over a region, (B, C_i) each; `inside` (B, 1, H, W) 0 to 1."""
    means = []
    for feature in features:
        weight = functional.adaptive_avg_pool2d(inside, (feature.shape[-2], feature.shape[-1]))
        means.append((feature * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp_min(1e-3))
    return means


class FeatureDistance(nn.Module):
    """Mahalanobis distance of feature means from the training images', over the root of their number.

    Lee et al., NeurIPS 2018 (arXiv 1807.03888), with one class and all of the encoder's features. About 1 for an image
    like the training images. `whitening` (C, C) is the transposed Cholesky factor of the precision matrix.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)

    def forward(self, means: Tensor) -> Tensor:
        """Distances (B,) of feature means (B, C)."""
        return torch.linalg.vector_norm((means - self.mean) @ self.whitening.T, dim=1) / self.mean.numel() ** 0.5

    def tensors(self) -> dict[str, Tensor]:
        """What is exported beside a network's tensors."""
        return {NOVELTY + name: tensor for name, tensor in self.state_dict().items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> FeatureDistance | None:
        """The distance among a weights file's tensors, if it holds one."""
        if NOVELTY + "mean" not in tensors:
            return None
        return cls(tensors[NOVELTY + "mean"], tensors[NOVELTY + "whitening"])
