"""Where in the radiograph a foundation model looks: attention rollout and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierbmd.baselines.foundation.network import FoundationNet

STEPS = 16
"""Steps of the path that the gradients are integrated along."""


def attention_rollout(net: FoundationNet, images: Tensor) -> NDArray[np.float32]:
    """How much of each pixel reaches the features by attention, (B, H, W), 0 or more, of images (B, 1, H, W).

    The product over the layers of half the mean of the heads and half the identity, seen from the class token, or from
    all patches where there is none (Abnar and Zuidema, ACL 2020). It knows nothing of classes. BadConfig for a
    backbone without attention over patches.
    """
    with torch.no_grad():
        rolled: Tensor | None = None
        for attention in net.attentions(images):
            mean = attention.mean(1)
            mixed = 0.5 * mean + 0.5 * torch.eye(mean.shape[-1], device=mean.device)
            mixed = mixed / mixed.sum(-1, keepdim=True)
            rolled = mixed if rolled is None else mixed @ rolled
        assert rolled is not None
        has_class_token = rolled.shape[-1] > net.patches
        seen = rolled[:, 0] if has_class_token else rolled.mean(1)
        grid = seen[:, -net.patches :].reshape(-1, 1, *net.patch_grid)
        back = net.processing.back(grid, (images.shape[-2], images.shape[-1]))
    return np.asarray(back[:, 0].clamp_min(0).cpu().numpy(), dtype=np.float32)


def osteoporosis_score(net: FoundationNet) -> Callable[[Tensor], Tensor]:
    """The log odds (B,) of osteoporosis against the other classes, of images (B, 1, H, W)."""

    def score(images: Tensor) -> Tensor:
        logits, _ = net(images)
        return torch.as_tensor(logits[:, -1] - torch.logsumexp(logits[:, :-1], dim=1))

    return score


def integrated_gradients(
    score: Callable[[Tensor], Tensor], images: Tensor, *, steps: int = STEPS
) -> NDArray[np.float32]:
    """How much each pixel moves a score (B,) on the way from a black image, (B, H, W), of images (B, 1, H, W).

    The absolute value of captum's IntegratedGradients (Sundararajan, Taly and Yan, ICML 2017). A pixel that is black
    itself has none, whatever the model does.
    """
    from captum.attr import IntegratedGradients

    found: Any = IntegratedGradients(score).attribute(
        images, baselines=0.0, n_steps=steps, method="gausslegendre", internal_batch_size=max(len(images), steps)
    )
    return np.asarray(found[:, 0].abs().detach().cpu().numpy(), dtype=np.float32)
