"""The network of several sites: where it starts, what its loss counts, what its file holds."""

from __future__ import annotations

import pytest
import torch

from hierbmd.baselines.lumbar.learner import SiteLearner
from hierbmd.errors import WrongWeights
from hierbmd.models.multi_output import BACKBONES, MultiOutputNet, build_encoder, encoder_card


def _network() -> MultiOutputNet:
    torch.manual_seed(0)
    return MultiOutputNet(build_encoder("UNet", {"widths": [4, 8]}), mean_g_cm2=[1.0, 0.8], sd_g_cm2=[0.15, 0.12])


def test_untrained_it_says_the_mean_of_each_site() -> None:
    output = _network().eval()(torch.rand(3, 1, 17, 13))
    assert output.bmd_g_cm2.tolist() == [pytest.approx([1.0, 0.8])] * 3
    assert output.category_logits.shape == (3, 2, 3)


def test_what_is_not_known_is_in_no_loss() -> None:
    learner = SiteLearner(_network().eval(), 0.5)
    image = torch.rand(2, 1, 16, 16)
    whole = {
        "radiograph": image,
        "bmd": torch.tensor([[1.1, 0.7], [0.9, 0.9]]),
        "category": torch.tensor([[0, 1], [1, 0]]),
    }
    unknown = torch.tensor([[1.1, float("nan")], [0.9, 0.9]])
    holed = {**whole, "bmd": unknown, "category": torch.tensor([[0, -1], [1, 0]])}
    losses = learner.losses(holed)
    losses["loss"].backward()
    losses, full = ({n: v.detach() for n, v in one.items()} for one in (losses, learner.losses(whole)))
    # Smooth L1 of an error e below one SD is e^2 / 2: 0.1 / 0.15, 0.1 / 0.15, 0.1 / 0.12.
    assert float(losses["value"]) == pytest.approx((2 * (0.1 / 0.15) ** 2 + (0.1 / 0.12) ** 2) / 6, rel=1e-4)
    assert float(full["value"]) == pytest.approx(((0.1 / 0.15) ** 2 + (0.1 / 0.12) ** 2) / 4, rel=1e-4)
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)
    assert float(losses["loss"]) == pytest.approx(float(losses["value"] + 0.5 * losses["category"]))


def test_everything_that_trains_is_in_the_file_and_the_decoder_is_not() -> None:
    network = _network()
    tensors = network.exported()
    assert not any("encoder.up" in name for name in tensors)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained <= set(tensors)
    other = MultiOutputNet(build_encoder(**_named(network)), mean_g_cm2=[0.0, 0.0], sd_g_cm2=[1.0, 1.0])
    other.fill(tensors)
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(other.eval()(image).category_logits, network.eval()(image).category_logits)


def _named(network: MultiOutputNet) -> dict[str, object]:
    return encoder_card(network.encoder)


def test_tensors_that_are_not_its_own_are_refused() -> None:
    network = _network()
    tensors = network.exported()
    with pytest.raises(WrongWeights, match=r"value\.bias"):
        network.fill({name: t for name, t in tensors.items() if name != "value.bias"})
    with pytest.raises(WrongWeights, match=r"value\.bias"):
        network.fill({**tensors, "value.bias": torch.zeros(5)})
    with pytest.raises(WrongWeights, match="names no generator"):
        build_encoder("os.system", {})
    assert "UNet" in BACKBONES
