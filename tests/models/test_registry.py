"""A card builds the network that it describes, and nothing that is not on the list."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierbmd.data.card import ModelCard
from hierbmd.data.density import Material
from hierbmd.data.halves import HalfFrame
from hierbmd.errors import WrongWeights
from hierbmd.models.density import DensityNet
from hierbmd.models.hrnet import HRNet
from hierbmd.models.mednext import MedNeXt
from hierbmd.models.registry import build_network, load_network, network_card
from hierbmd.models.regressor import BmdNet
from hierbmd.models.unet import UNet


def _card(network: DensityNet | BmdNet, structures: tuple[str, ...] = ("total_hip",)) -> ModelCard:
    return ModelCard("regress", structures, network_card(network), HalfFrame((16, 32)), Material.HA, "total_hip")


def _networks() -> list[DensityNet | BmdNet]:
    return [
        DensityNet(UNet((4, 8), stem_stride=2), ("total_hip",)),
        DensityNet(HRNet(4, (1, 1), blocks=1), ("total_hip",), mask=True),
        DensityNet(MedNeXt(4, (1, 1), kernel=3, response_norm=True), ("total_hip",), mask=True),
        BmdNet(DensityNet(UNet((4, 8)), ("total_hip",), mask=True), hidden=3, from_readout=False, mean_g_cm2=0.7),
    ]


@pytest.mark.parametrize("network", _networks(), ids=lambda n: type(n).__name__)
def test_a_network_survives_its_card(network: DensityNet | BmdNet) -> None:
    card = ModelCard.from_json(_card(network).to_json())
    again = build_network(card)
    load_network(
        again, {f"network.{k}": v for k, v in network.state_dict().items()} | {"discriminator.x": torch.ones(1)}
    )
    image = torch.randn(2, 1, 32, 16)
    network.eval(), again.eval()
    first, second = network(image), again(image)
    assert torch.equal(first[0], second[0])


@pytest.mark.parametrize(
    "generator",
    [{"name": "os.system", "settings": {}}, {"name": "UNet", "settings": {"depth": 3}}, {"name": "UNet"}, {}],
    ids=str,
)
def test_an_unknown_generator_is_refused(generator: dict[str, Any]) -> None:
    network = {"generator": generator, "mask": True, "head": None}
    card = ModelCard("synthesize", ("total_hip",), network, HalfFrame(), Material.HA, "total_hip")
    with pytest.raises(WrongWeights, match="no generator known here"):
        build_network(card)


def test_tensors_of_another_network_are_refused() -> None:
    network = DensityNet(UNet((4, 8)), ("total_hip",))
    other = DensityNet(UNet((4, 6)), ("total_hip",))
    with pytest.raises(WrongWeights, match="do not fit"):
        load_network(network, {f"network.{k}": v for k, v in other.state_dict().items()})
