"""The losses of the image stages, each in the unit and size that its weight in the configuration expects.

Images are areal density in g/cm2, (B, C, H, W), one channel a structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from monai.losses import DiceCELoss, PatchAdversarialLoss
from torch import Tensor
from torch.nn import functional

from hierbmd.models.density import DensityOutput
from hierbmd.options import option

_EPSILON = 1e-6


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts; at 0 it is not computed. The defaults are the published recipe's."""

    l1: float = option("mean absolute difference, g/cm2", 100.0)
    gradient_correlation: float = option("1 - correlation of horizontal and vertical gradients", 1.0)
    feature_matching: float = option("difference of the discriminator's features", 10.0)
    adversarial: float = option("least-squares adversarial loss", 1.0)
    intensity_sum: float = option("object-wise difference of intensity sums, g/cm2 per pixel", 0.0)
    mask: float = option("Dice and cross-entropy of the measured region's mask", 0.0)
    region_mean: float = option("absolute difference of the mean over the region, g/cm2", 0.0)

    @property
    def any(self) -> bool:
        """Whether any loss counts."""
        return any(getattr(self, field.name) > 0 for field in fields(self))

    @property
    def needs_discriminator(self) -> bool:
        """Whether any loss asks the discriminator."""
        return self.feature_matching > 0 or self.adversarial > 0


def l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over everything."""
    return functional.l1_loss(predicted, target)


def gradient_correlation(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - mean normalised cross-correlation of the horizontal and of the vertical gradients, in [0, 2].

    Gradients are forward differences; the correlation is taken per image and channel (METHOD section 1; the measure is
    that of Penney et al., IEEE TMI 1998). A channel without any gradient in the target does not count.
    """
    losses = []
    for axis in (-1, -2):
        a, b = predicted.diff(dim=axis).flatten(2), target.diff(dim=axis).flatten(2)
        a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
        power = b.square().sum(-1)
        ncc = (a * b).sum(-1) / (a.square().sum(-1) * power + _EPSILON**2).sqrt()
        present = power > _EPSILON
        losses.append(((1.0 - ncc) * present).sum() / present.sum().clamp_min(1))
    return 0.5 * (losses[0] + losses[1])


def intensity_sum(predicted: Tensor, target: Tensor) -> Tensor:
    """|sum(predicted) - sum(target)| per object (channel) and image, over the number of pixels, averaged.

    The object-wise intensity-sum loss of MSKdeX (arXiv 2305.19920), unchanged by pose. Divided by the number of
    pixels it is in g/cm2 and never above the L1 loss, whatever the image's size.
    """
    return (predicted - target).mean(dim=(-2, -1)).abs().mean()


def feature_matching(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of the discriminator's features of fake and real images, over layers and scales.

    pix2pixHD's feature-matching loss (Wang et al., CVPR 2018). Gradients flow into `fake` only; scores do not count.
    """
    differences = [
        functional.l1_loss(a, b.detach())
        for scale_fake, scale_real in zip(fake, real, strict=True)
        for a, b in zip(scale_fake[:-1], scale_real[:-1], strict=True)
    ]
    return torch.stack(differences).mean()


def adversarial(outputs: Sequence[Sequence[Tensor]], *, real: bool) -> Tensor:
    """Least-squares distance of the patch scores from 1 (`real`) or 0, over scales (LSGAN, Mao et al. 2017)."""
    measure = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
    return torch.as_tensor(measure([scale[-1] for scale in outputs], target_is_real=real, for_discriminator=True))


def mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice plus cross-entropy between logits (B, 1, H, W) and a mask of 0 and 1."""
    return torch.as_tensor(DiceCELoss(sigmoid=True)(logits, mask))


def image_losses(
    weights: LossWeights,
    output: DensityOutput,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    registered: Tensor | None = None,
) -> dict[str, Tensor]:
    """The losses whose weight is above 0 that need no discriminator, by name, unweighted.

    `target` (B, C, H, W) in g/cm2; `mask` (B, 1, H, W) is where the measured region is; the losses `mask` and
    `region_mean` need it. `registered` (B,) bool says whose target lies where the radiograph shows the bone, all
    without it: of the others only the object-wise intensity sums count, which no pose changes (MSKdeX).
    """
    if registered is not None and not registered.all():
        sums = image_losses(_only_sums(weights), output, target)
        if registered.any():
            aligned = replace(weights, intensity_sum=0.0)
            masked = None if mask is None else mask[registered]
            sums |= image_losses(aligned, output.of(registered), target[registered], mask=masked)
        return sums
    wanted: dict[str, Callable[[], Tensor]] = {
        "l1": lambda: l1(output.areal, target),
        "gradient_correlation": lambda: gradient_correlation(output.areal, target),
        "intensity_sum": lambda: intensity_sum(output.areal, target),
    }
    if mask is not None and output.mask_logits is not None:
        logits = output.mask_logits
        wanted["mask"] = lambda: mask_loss(logits, mask)
        wanted["region_mean"] = lambda: functional.l1_loss(output.region_mean, region_mean(target, mask))
    return {name: loss() for name, loss in wanted.items() if getattr(weights, name) > 0}


def _only_sums(weights: LossWeights) -> LossWeights:
    return LossWeights(0.0, 0.0, 0.0, 0.0, weights.intensity_sum)


def region_mean(areal: Tensor, mask: Tensor) -> Tensor:
    """The mean of the first channel of (B, C, H, W) over a mask (B, 1, H, W), (B,), in the image's unit."""
    inside = mask[:, 0]
    return (areal[:, 0] * inside).sum((-2, -1)) / inside.sum((-2, -1)).clamp_min(1e-3)


def weighted_sum(weights: LossWeights, losses: dict[str, Tensor]) -> Tensor:
    """The losses times their weights, summed."""
    return torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
