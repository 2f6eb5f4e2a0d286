"""Networks: shapes, heads, what is carried from stage to stage, and building from a card."""

from __future__ import annotations

import pytest
import torch

from hierbmd.models.density import DensityNet
from hierbmd.models.discriminator import DiscriminatorOptions, MultiScaleDiscriminator
from hierbmd.models.generator import Generator
from hierbmd.models.hrnet import HRNet
from hierbmd.models.mednext import MedNeXt
from hierbmd.models.regressor import BmdNet
from hierbmd.models.unet import UNet


def _generators() -> list[Generator]:
    return [
        UNet((4, 8), norm="instance"),
        UNet((4, 8, 12), stem_stride=2, norm="group"),
        UNet((4, 8), stem_stride=2, dropout=0.1),
        HRNet(4, (1, 1, 1), blocks=1, stem_stride=2),
        HRNet(4, (1, 1), blocks=1, stem_stride=4),
        HRNet(4, (1, 1), blocks=1, stem_stride=1, norm="instance"),
        MedNeXt(4, (1, 1, 1), kernel=3),
        MedNeXt(4, (1, 2), stem_stride=1, response_norm=True),
    ]


@pytest.mark.parametrize("generator", _generators(), ids=lambda g: f"{type(g).__name__}-{g.settings}")
def test_a_generator_keeps_size_and_says_its_channels(generator: Generator) -> None:
    # 50 x 38 is a multiple of nothing here, so that padding is exercised.
    network = DensityNet(generator, ("hip", "femur"), mask=True).eval()
    image = torch.randn(2, 1, 50, 38)
    output = network(image)
    assert output.areal.shape == (2, 2, 50, 38)
    assert output.mask_logits is not None
    assert output.mask_logits.shape == (2, 1, 50, 38)
    features = network.encode(image)
    assert tuple(f.shape[1] for f in features) == generator.feature_channels
    assert [f.shape[-1] for f in features] == sorted((f.shape[-1] for f in features), reverse=True)
    assert torch.equal(network.decode(features, (50, 38)).areal, output.areal)


@pytest.mark.parametrize("generator", _generators(), ids=lambda g: f"{type(g).__name__}-{g.settings}")
def test_every_parameter_learns(generator: Generator) -> None:
    network = DensityNet(generator, ("femur",), mask=True)
    output = network(torch.randn(2, 1, 32, 32))
    assert output.mask_logits is not None
    (output.areal.square().mean() + output.mask_logits.square().mean()).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None]
    assert idle == []


def test_the_published_widths_have_the_published_size() -> None:
    # HRNetV2-W48 for segmentation has 65.9 million parameters (Wang et al., TPAMI 2021); the head and stem differ here.
    parameters = sum(p.numel() for p in HRNet(48).parameters())
    assert 0.9 * 65.9e6 < parameters < 1.1 * 65.9e6


def test_the_region_starts_as_the_femur() -> None:
    source = DensityNet(UNet((4, 8)), ("hip", "femur"))
    target = DensityNet(UNet((4, 8)), ("total_hip",), mask=True)
    target.carry_from(source, channels=("femur",))
    image = torch.randn(1, 1, 16, 16)
    source.eval(), target.eval()
    output = target(image)
    assert output.mask_logits is not None
    inside = torch.sigmoid(output.mask_logits[:, 0])
    assert torch.allclose(output.areal[:, 0], source(image).areal[:, 1] * inside, atol=1e-6)


def test_a_region_of_several_bones_starts_as_their_sum() -> None:
    source = DensityNet(UNet((4, 8)), ("L1", "L2", "L3", "L4"))
    target = DensityNet(UNet((4, 8)), ("lumbar_l1_l4",), mask=True)
    target.carry_from(source, channels=("L1", "L2", "L3", "L4"))
    image = torch.randn(1, 1, 16, 16)
    source.eval(), target.eval()
    output = target(image)
    assert output.mask_logits is not None
    inside = torch.sigmoid(output.mask_logits[:, 0])
    assert torch.allclose(output.areal[:, 0], source(image).areal.sum(1) * inside, atol=1e-5)


def test_the_regressor_starts_from_the_readout() -> None:
    density = DensityNet(UNet((4, 8)), ("total_hip",), mask=True)
    network = BmdNet(density, hidden=4).eval()
    network.set_readout(1.5, -0.2)
    value, output = network(torch.randn(3, 1, 16, 16))
    assert torch.allclose(value, 1.5 * output.region_mean - 0.2, atol=1e-6)


def test_a_regressor_without_readout_starts_from_the_mean_and_needs_no_region_density() -> None:
    network = BmdNet(DensityNet(UNet((4, 8)), ("total_hip",), mask=True), from_readout=False, mean_g_cm2=0.8).eval()
    value, _ = network(torch.randn(3, 1, 16, 16))
    assert torch.allclose(value, torch.full((3,), 0.8))
    torch.nn.init.normal_(network.value.weight)
    value, _ = network(torch.randn(3, 1, 16, 16))
    assert value.std() > 0


def test_the_discriminator_sees_half_the_size_at_its_second_scale() -> None:
    discriminator = MultiScaleDiscriminator(DiscriminatorOptions(scales=2, layers=2, filters=4))
    outputs = discriminator(torch.randn(2, 1, 64, 32), torch.rand(2, 3, 64, 32))
    first, second = (scale[0].shape for scale in outputs)
    assert first[2:] == (32, 16)
    assert second[2:] == (16, 8)
    assert all(scale[-1].shape[1] == 1 for scale in outputs)


def test_the_published_discriminator_is_the_default() -> None:
    discriminator = MultiScaleDiscriminator(DiscriminatorOptions())
    outputs = discriminator(torch.randn(1, 1, 64, 64), torch.rand(1, 1, 64, 64))
    assert [layer.shape[1] for layer in outputs[0]] == [64, 128, 256, 512, 1]
