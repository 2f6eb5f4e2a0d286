"""Which generators a card may name: a card is data, so it picks from this list and imports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hierbmd.data.card import ModelCard
from hierbmd.errors import WrongWeights
from hierbmd.models.density import DensityNet
from hierbmd.models.generator import Generator
from hierbmd.models.hrnet import HRNet
from hierbmd.models.mednext import MedNeXt
from hierbmd.models.regressor import BmdNet
from hierbmd.models.unet import UNet

NETWORK = "network."
DISCRIMINATOR = "discriminator."

GENERATORS: dict[str, type[Generator]] = {"UNet": UNet, "HRNet": HRNet, "MedNeXt": MedNeXt}


def network_card(network: DensityNet | BmdNet) -> dict[str, Any]:
    """How to build this network again, as plain data for a card."""
    density = network.density if isinstance(network, BmdNet) else network
    return {
        "generator": {"name": type(density.generator).__name__, "settings": density.generator.settings},
        "mask": density.mask_head is not None,
        "head": network.settings if isinstance(network, BmdNet) else None,
    }


def build_network(card: ModelCard) -> DensityNet | BmdNet:
    """The network that a model card describes, with fresh weights; WrongWeights when it cannot be built here."""
    network = dict(card.network)
    generator = build_generator(network.get("generator", {}))
    density = DensityNet(generator, card.structures, mask=bool(network.get("mask")))
    head = network.get("head")
    return density if head is None else BmdNet(density, **head)


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], *, prefix: str = NETWORK) -> None:
    """Fill a network from a weights file's tensors of `prefix`; WrongWeights names what is missing or misshapen."""
    chosen = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(chosen)
    except RuntimeError as error:
        raise WrongWeights("the tensors do not fit the card's network", where=str(error)[:300]) from None


def build_generator(card: dict[str, Any]) -> Generator:
    """The generator that a card describes, with fresh weights; WrongWeights when it names one that is not listed."""
    try:
        return GENERATORS[card["name"]](**card["settings"])
    except (KeyError, TypeError, ValueError) as error:
        known = ", ".join(GENERATORS)
        raise WrongWeights(f"the card names no generator known here ({error!r})", mend=f"known: {known}") from None
