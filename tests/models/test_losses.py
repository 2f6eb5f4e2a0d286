"""Losses against closed form and finite differences; weights of zero cost nothing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from hierbmd.models import losses
from hierbmd.models.density import DensityOutput
from hierbmd.models.losses import LossWeights

OFF = LossWeights(l1=0.0, gradient_correlation=0.0, feature_matching=0.0, adversarial=0.0)


def _images(seed: int = 0, shape: tuple[int, ...] = (2, 2, 7, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return a, b


def test_gradient_correlation_is_zero_for_any_positive_linear_change() -> None:
    image, _ = _images()
    assert losses.gradient_correlation(3.0 * image + 0.4, image) == pytest.approx(0.0, abs=1e-9)
    assert losses.gradient_correlation(-image, image) == pytest.approx(2.0, abs=1e-9)


def test_gradient_correlation_against_its_formula() -> None:
    a, b = _images(shape=(1, 1, 5, 4))
    expected = []
    for axis in (-1, -2):
        x, y = a.diff(dim=axis).flatten(), b.diff(dim=axis).flatten()
        expected.append(1.0 - float(torch.corrcoef(torch.stack([x, y]))[0, 1]))
    assert float(losses.gradient_correlation(a, b)) == pytest.approx(sum(expected) / 2, abs=1e-9)


def test_gradient_correlation_counts_each_axis() -> None:
    ramp = torch.linspace(0, 1, 6, dtype=torch.float64).square().expand(1, 1, 5, 6)
    noise, _ = _images(shape=(1, 1, 5, 6))
    # The target varies along rows only, so that only the horizontal gradients count.
    across = 1.0 - float(torch.corrcoef(torch.stack([noise.diff(dim=-1).flatten(), ramp.diff(dim=-1).flatten()]))[0, 1])
    assert float(losses.gradient_correlation(noise, ramp)) == pytest.approx(across / 2, abs=1e-9)


def test_gradient_correlation_of_an_empty_target_does_not_count() -> None:
    image, _ = _images()
    assert float(losses.gradient_correlation(image, torch.zeros_like(image))) == 0.0


def test_intensity_sum_is_blind_to_place_and_never_above_l1() -> None:
    predicted, target = _images()
    moved = torch.roll(predicted, (2, 3), (-2, -1))
    assert float(losses.intensity_sum(moved, predicted)) == pytest.approx(0.0, abs=1e-12)
    assert float(losses.intensity_sum(predicted + 0.25, predicted)) == pytest.approx(0.25)
    assert float(losses.intensity_sum(predicted, target)) <= float(losses.l1(predicted, target))


def test_intensity_sum_is_per_object() -> None:
    target = torch.zeros(1, 2, 4, 4)
    predicted = torch.stack([torch.full((4, 4), 0.5), torch.full((4, 4), -0.5)])[None]
    assert float(losses.intensity_sum(predicted, target)) == pytest.approx(0.5)


def test_region_mean_against_closed_form() -> None:
    areal, mask = torch.zeros(2, 1, 4, 5), torch.zeros(2, 1, 4, 5)
    areal[0, 0, 1, 1], areal[0, 0, 1, 2], mask[0, 0, 1, 1:3] = 1.0, 0.5, 1.0
    areal[1, 0, :2], mask[1, 0, :2] = 0.8, 1.0
    assert losses.region_mean(areal, mask).tolist() == pytest.approx([0.75, 0.8])
    logits = torch.where(mask > 0, 30.0, -30.0)
    assert DensityOutput(areal, logits).region_mean.tolist() == pytest.approx([0.75, 0.8], abs=1e-5)


def test_least_squares_game_has_its_closed_form() -> None:
    scores = [[torch.full((1, 1, 2, 2), 9.0), torch.full((1, 1, 2, 2), 0.25)], [torch.full((1, 1, 1, 1), -1.0)]]
    assert float(losses.adversarial(scores, real=True)) == pytest.approx((0.75**2 + 2.0**2) / 2)
    assert float(losses.adversarial(scores, real=False)) == pytest.approx((0.25**2 + 1.0) / 2)


def test_feature_matching_ignores_scores_and_holds_the_real_side_still() -> None:
    fake = [[torch.ones(1, 2, 3, 3, requires_grad=True), torch.full((1, 1, 3, 3), 50.0)]]
    real = [[torch.full((1, 2, 3, 3), 0.25, requires_grad=True), torch.zeros(1, 1, 3, 3)]]
    loss = losses.feature_matching(fake, real)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.75)
    assert fake[0][0].grad is not None
    assert real[0][0].grad is None


@pytest.mark.parametrize("name", ["l1", "gradient_correlation", "intensity_sum"])
def test_gradients_against_finite_differences(name: str) -> None:
    predicted, target = _images(3, (1, 2, 4, 5))
    predicted.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: getattr(losses, name)(x, target), (predicted,), eps=1e-6, atol=1e-6)


def test_gradients_of_the_region_losses_against_finite_differences() -> None:
    areal, mask = _images(4, (1, 1, 4, 5))
    logits = torch.randn(1, 1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = (mask > 0.5).double()
    areal.requires_grad_(True)
    logits.requires_grad_(True)
    weights = dataclasses.replace(OFF, mask=1.0, region_mean=2.0)

    def total(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        parts = losses.image_losses(weights, DensityOutput(a, m), target, mask=mask)
        return losses.weighted_sum(weights, parts)

    target = torch.rand(1, 1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(total, (areal, logits), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["l1", "gradient_correlation", "intensity_sum", "mask", "region_mean"])
def test_a_weight_of_zero_is_not_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise AssertionError(f"{name} was computed")

    monkeypatch.setattr(losses, "mask_loss" if name == "mask" else name, explode)
    weights = LossWeights(l1=1, gradient_correlation=1, intensity_sum=1, mask=1, region_mean=1)
    areal, target = (x[:, :1] for x in _images())
    output, mask = DensityOutput(areal, areal), (target > 0.5).double()
    without = losses.image_losses(dataclasses.replace(weights, **{name: 0.0}), output, target, mask=mask)
    assert name not in without
    with pytest.raises(AssertionError, match="was computed"):
        losses.image_losses(weights, output, target, mask=mask)


def test_the_weighted_sum_is_weighted() -> None:
    weights = dataclasses.replace(OFF, l1=100.0, gradient_correlation=2.0)
    parts = {"l1": torch.tensor(0.5), "gradient_correlation": torch.tensor(0.25)}
    assert float(losses.weighted_sum(weights, parts)) == pytest.approx(50.5)
    assert not weights.needs_discriminator
    assert math.isclose(LossWeights().l1, 100.0)


def test_of_pairs_that_are_not_registered_only_the_sums_count() -> None:
    predicted, target = (x[:, :1].clone() for x in _images(5))
    mask = (target > 0.5).double()
    weights = LossWeights(l1=1, gradient_correlation=1, intensity_sum=1, mask=1, region_mean=1)
    registered = torch.tensor([True, False])
    predicted.requires_grad_(True)
    parts = losses.image_losses(weights, DensityOutput(predicted, predicted), target, mask=mask, registered=registered)
    alone = DensityOutput(predicted[:1], predicted[:1])
    expected = losses.image_losses(weights, alone, target[:1], mask=mask[:1])
    assert {name: float(x.detach()) for name, x in parts.items() if name != "intensity_sum"} == pytest.approx(
        {name: float(x.detach()) for name, x in expected.items() if name != "intensity_sum"}
    )
    assert float(parts["intensity_sum"].detach()) == pytest.approx(
        float(losses.intensity_sum(predicted, target).detach())
    )
    # Whatever the place of its density, an unregistered image gets one gradient for all of its pixels.
    losses.weighted_sum(weights, parts).backward()
    assert predicted.grad is not None
    assert predicted.grad[1].std() < 1e-12 < predicted.grad[1].abs().mean()
    nobody = torch.zeros(2, dtype=torch.bool)
    parts = losses.image_losses(weights, DensityOutput(predicted, None), target, registered=nobody)
    assert set(parts) == {"intensity_sum"}
