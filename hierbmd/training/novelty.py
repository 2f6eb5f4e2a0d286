"""From which distance on an image is called unlike the training images: fitted after the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hierbmd.data.card import Novelty
from hierbmd.models.novelty import FeatureDistance, feature_means
from hierbmd.models.regressor import BmdNet
from hierbmd.training.data import TRAIN, VALIDATION, PairData
from hierbmd.training.stage import StageModule

LEVEL = 0.99
"""The share of images like the training images that is not flagged."""

_FOLDS = 5


@dataclass(frozen=True)
class FittedNovelty:
    """The distance, whose tensors go with the weights, and its limit, which goes on the card."""

    distance: FeatureDistance
    limit: Novelty


def fit_novelty(module: StageModule, data: PairData) -> FittedNovelty:
    """Fit the distance on the training images; its limit from patients that a fit did not see.

    The limit is the LEVEL quantile of the distances of training patients held out in turn, or that of the validation
    patients where this is larger: the network learned from the former, so their features may lie too near.
    """
    training = _features(module, data, TRAIN)
    subjects = [record.subject for record in data.real(TRAIN)]
    limit = _quantile(_held_out_distances(training, subjects))
    distance = fit_distance(training)
    if data.records(VALIDATION):
        seen = distance(torch.from_numpy(_features(module, data, VALIDATION)))
        limit = max(limit, _quantile(seen.numpy()))
    return FittedNovelty(distance, Novelty(limit, LEVEL))


def fit_distance(features: NDArray[np.float32]) -> FeatureDistance:
    """The distance from feature means (n, C), with the covariance shrunk (Ledoit and Wolf, J Multivar Anal 2004)."""
    from sklearn.covariance import LedoitWolf

    wide = features.astype(np.float64)
    # Features that hardly vary, and a scale of their own for each, would leave the shrinkage to the largest alone.
    scale = wide.std(axis=0) + 1e-6
    precision = LedoitWolf().fit(wide / scale).precision_
    whitening = np.linalg.cholesky(precision).T / scale
    return FeatureDistance(torch.tensor(wide.mean(axis=0)).float(), torch.tensor(whitening).float())


def _held_out_distances(features: NDArray[np.float32], subjects: Sequence[str]) -> NDArray[np.float32]:
    from sklearn.model_selection import GroupKFold

    folds = min(_FOLDS, len(set(subjects)))
    if folds < 2:
        return fit_distance(features)(torch.from_numpy(features)).numpy()
    found = np.zeros(len(features), dtype=np.float32)
    for kept, left in GroupKFold(folds).split(features, groups=list(subjects)):
        found[left] = fit_distance(features[kept])(torch.from_numpy(features[left])).numpy()
    return found


def _quantile(distances: NDArray[np.float32]) -> float:
    return float(np.quantile(distances, LEVEL, method="higher"))


def _features(module: StageModule, data: PairData, split: str) -> NDArray[np.float32]:
    network = module.network.density if isinstance(module.network, BmdNet) else module.network
    module.eval()
    with torch.no_grad():
        means = [
            feature_means(network.encode(batch["radiograph"].to(module.device))).cpu()
            for batch in data.plain_loader(split)
        ]
    return torch.cat(means).numpy()
