"""The trained system as a model like any other: L1-L4's BMD, with the femur's and both categories beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.baselines.lumbar.options import SITES
from hierbmd.baselines.lumbar.targets import CATEGORIES
from hierbmd.data.card import ModelCard, Readout
from hierbmd.data.density import REFERENCES, T_SCORE_FOR, Bmd, DensityClass
from hierbmd.data.halves import Half
from hierbmd.errors import WrongWeights
from hierbmd.predict import Prediction, acquisition_flags

if TYPE_CHECKING:
    from torch import Tensor

    from hierbmd.models.multi_output import MultiOutputNet


@dataclass(frozen=True)
class LumbarFemurPredictor:
    """The mean of the folds' networks, with the card of the whole."""

    card: ModelCard
    networks: tuple[MultiOutputNet, ...]

    def predict_half(self, half: Half) -> Prediction:
        """Read a whole lumbar radiograph on the card's frame: no density image, the femur's BMD under `findings`."""
        bmd, shares = read_all(self.networks, [self.card.normalisation.apply(half.pixels)])
        assert self.card.readout is not None
        value = float(bmd[0, 0])
        lumbar = Bmd(value, self.card.region, half.side, self.card.material, self.card.readout.interval(value))
        findings = {site: self._finding(n, float(bmd[0, n]), shares[0, n]) for n, site in enumerate(SITES)}
        return Prediction(None, lumbar, None, acquisition_flags(half, self.card), findings=findings)

    def _finding(self, site: int, value: float, shares: NDArray[np.float64]) -> dict[str, Any]:
        said = self.card.network["sites"][site]
        reference = REFERENCES[said["reference"]]
        interval = Readout(interval_g_cm2=said["interval_g_cm2"]).interval(value)
        t_score = reference.t_score(value)
        return {
            "region": reference.region,
            "bmd_g_cm2": value,
            "interval_g_cm2": None if interval is None else list(interval),
            "interval_level": said["interval_level"],
            "reference": reference.name,
            "t_score": t_score,
            "class": DensityClass.of(t_score).value,
            "category": CATEGORIES[int(np.argmax(shares))].value,
            "category_shares": {c.value: float(share) for c, share in zip(CATEGORIES, shares, strict=True)},
            "t_score_is_for": T_SCORE_FOR,
            "seen_on_the_radiograph": site == 0,
        }


def read_all(
    networks: Sequence[MultiOutputNet], images: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The networks' mean BMD (n, S) in g/cm2 and mean shares of the categories (n, S, C) of normalised images."""
    from hierbmd.baselines.lumbar.learner import read

    found = [read(network, images) for network in networks]
    return np.mean([bmd for bmd, _ in found], axis=0), np.mean([shares for _, shares in found], axis=0)


def tensors_of(networks: Sequence[MultiOutputNet]) -> dict[str, Tensor]:
    """The tensors of all folds, by name."""
    return {f"fold{n}.{name}": t for n, network in enumerate(networks) for name, t in network.exported().items()}


def networks_of(card: ModelCard, tensors: Mapping[str, Tensor]) -> tuple[MultiOutputNet, ...]:
    """The networks that a card describes, filled; WrongWeights when they cannot be."""
    from hierbmd.models.multi_output import MultiOutputNet, build_encoder

    try:
        said = card.network
        folds, settings, sites = int(said["folds"]), dict(said["head"]), len(said["sites"])
        encoder_name, encoder_settings = said["encoder"]["name"], said["encoder"]["settings"]
    except (KeyError, TypeError, ValueError) as error:
        raise WrongWeights(f"the card describes no lumbar-and-femur network ({error!r})") from None
    networks = []
    for n in range(folds):
        encoder = build_encoder(encoder_name, encoder_settings)
        network = MultiOutputNet(encoder, mean_g_cm2=[0.0] * sites, sd_g_cm2=[1.0] * sites, **settings)
        prefix = f"fold{n}."
        network.fill({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
        networks.append(network.eval())
    return tuple(networks)
