"""The stages: what each learns from, what it carries on, and what its losses may reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hierbmd.stages.decompose import Decompose
from hierbmd.stages.image_stage import ImageStage
from hierbmd.stages.pretrain import Pretrain
from hierbmd.stages.regress import HeadOptions, Regress
from hierbmd.stages.synthesize import Synthesize

from hierbmd.data.card import ModelCard
from hierbmd.errors import BadConfig
from hierbmd.io.dataset import read_dataset
from hierbmd.io.weights import read_weights
from hierbmd.models.density import DensityNet
from hierbmd.models.discriminator import DiscriminatorOptions
from hierbmd.models.losses import LossWeights
from hierbmd.models.registry import network_card
from hierbmd.models.regressor import BmdNet
from hierbmd.models.unet import UNet
from hierbmd.training.data import PairData
from hierbmd.training.stage import Begin, StageModule, Start

SMALL = DiscriminatorOptions(scales=2, layers=1, filters=4)
PLAIN = LossWeights(l1=1.0, gradient_correlation=0.0, feature_matching=0.0, adversarial=0.0, mask=1.0, region_mean=1.0)


@pytest.fixture
def batch(hip_dataset: Path) -> Any:
    """One batch of validation pairs."""
    return next(iter(PairData(str(hip_dataset), batch_size=4).plain_loader("val")))


def _begun(module: StageModule, dataset: Path, start: Start | None = None) -> Any:
    module.begin(Begin(read_dataset(dataset).card, 0.8, start))
    # Steps are called here without a trainer, so there is nowhere to log.
    module.report = lambda *_: None  # type: ignore[method-assign]
    return module


def _start_of(module: ImageStage, dataset: Path) -> Start:
    card = read_dataset(dataset).card
    made = ModelCard(
        module.stage, module.structures, network_card(module.network), card.frame, card.material, card.region
    )
    return Start({name: t.clone() for name, t in module.tensors().items()}, made)


def test_the_game_reaches_only_whom_it_should(hip_dataset: Path, batch: Any) -> None:
    only_game = LossWeights(l1=0.0, gradient_correlation=0.0, feature_matching=1.0, adversarial=1.0)
    module = _begun(Decompose(UNet((4, 8)), only_game, SMALL), hip_dataset)
    output = module.network(batch["radiograph"])
    game, own = module._adversarial(module.discriminator, batch["radiograph"], output, batch["bones"])
    own.backward(retain_graph=True)
    assert all(p.grad is None for p in module.network.parameters())
    held = {name: p.grad.clone() for name, p in module.discriminator.named_parameters()}
    (game["adversarial"] + game["feature_matching"]).backward()
    assert all(p.grad is not None for p in module.network.parameters() if p.requires_grad and p is not None)
    assert all(torch.equal(held[name], p.grad) for name, p in module.discriminator.named_parameters())
    assert all(p.requires_grad for p in module.discriminator.parameters())


def test_no_discriminator_is_built_that_no_loss_asks(hip_dataset: Path) -> None:
    assert _begun(Decompose(UNet((4, 8)), PLAIN), hip_dataset).discriminator is None


def test_stage_2_starts_from_stage_1s_generator_and_discriminator(hip_dataset: Path) -> None:
    torch.manual_seed(1)
    first = _begun(Decompose(UNet((4, 8)), LossWeights(), SMALL), hip_dataset)
    torch.manual_seed(2)
    second = _begun(Synthesize(None, LossWeights(mask=1.0), SMALL), hip_dataset, _start_of(first, hip_dataset))
    a, b = first.network.generator.state_dict(), second.network.generator.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = first.discriminator.state_dict(), second.discriminator.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    femur = first.network.structures.index("femur")
    assert torch.equal(second.network.head.weight[0], first.network.head.weight[femur])
    assert second.structures == ("total_hip",)


def test_stage_3_starts_from_stage_2s_network(hip_dataset: Path) -> None:
    second = _begun(Synthesize(UNet((4, 8)), PLAIN, from_scratch=True), hip_dataset)
    third = _begun(Regress(None, PLAIN), hip_dataset, _start_of(second, hip_dataset))
    assert isinstance(third.network, BmdNet)
    a, b = second.network.state_dict(), third.network.density.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_frozen_generator_stays_and_the_head_learns(hip_dataset: Path, batch: Any) -> None:
    second = _begun(Synthesize(UNet((4, 8)), PLAIN, from_scratch=True), hip_dataset)
    third = _begun(
        Regress(None, PLAIN, HeadOptions(freeze_generator=True)), hip_dataset, _start_of(second, hip_dataset)
    )
    before = {name: t.clone() for name, t in third.network.density.state_dict().items()}
    third.train()
    third.on_train_epoch_start()
    third.training_step(batch, 0).backward()
    after = third.network.density.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert third.network.value.weight.grad is not None
    assert all(p.grad is None for p in third.network.density.parameters())


def test_frozen_norms_keep_stage_2s_statistics_and_train_on_what_evaluation_reads(
    hip_dataset: Path, batch: Any
) -> None:
    second = _begun(Synthesize(UNet((4, 8), norm="batch"), PLAIN, from_scratch=True), hip_dataset)
    start = _start_of(second, hip_dataset)
    for freeze in (True, False):
        third = _begun(Regress(None, PLAIN, HeadOptions(freeze_norm=freeze)), hip_dataset, start)
        third.eval()
        evaluated = third.bmd_of(batch["radiograph"])[0].detach()
        third.train()
        third.on_train_epoch_start()
        before = {name: t.clone() for name, t in third.network.density.named_buffers()}
        trained = third.network(batch["radiograph"])[0]
        assert torch.allclose(trained, evaluated, atol=1e-5) == freeze
        assert all(torch.equal(before[n], t) for n, t in third.network.density.named_buffers()) == freeze
        trained.sum().backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in third.network.density.parameters())
    with pytest.raises(BadConfig, match="no statistics to keep"):
        Regress(UNet((4, 8)), PLAIN, HeadOptions(freeze_norm=True), from_scratch=True)


def test_direct_regression_from_scratch_starts_at_the_mean(hip_dataset: Path, batch: Any) -> None:
    module = _begun(Regress(UNet((4, 8)), PLAIN, HeadOptions(from_readout=False), from_scratch=True), hip_dataset)
    module.eval()
    assert torch.allclose(module.bmd_of(batch["radiograph"])[0], torch.full((4,), 0.8))


def test_the_exported_discriminator_is_for_the_next_stage_only(tiny_runs: dict[str, Path]) -> None:
    kinds = {stage: {name.split(".")[0] for name in read_weights(folder)[0]} for stage, folder in tiny_runs.items()}
    assert kinds["decompose"] == {"network", "discriminator"}
    assert kinds["synthesize"] == {"network", "discriminator", "novelty"}
    assert kinds["regress"] == {"network", "novelty"}


def test_the_three_stages_learn_bmd_on_patients_never_seen(tiny_runs: dict[str, Path], readable_dataset: Path) -> None:
    from hierbmd.evaluation.cases import half_of
    from hierbmd.predict import load_predictor

    dataset = read_dataset(readable_dataset)
    records = dataset.of_split("test")[::2]
    true = np.array([record.bmd_g_cm2 for record in records])
    for stage in ("synthesize", "regress"):
        predictor = load_predictor(tiny_runs[stage])
        halves = [half_of(dataset.load(record), dataset) for record in records]
        read = np.array([predictor.predict_half(half).bmd.value_g_cm2 for half in halves])
        assert np.corrcoef(read, true)[0, 1] > 0.9, stage
        assert np.sqrt(np.mean((read - true) ** 2)) < 0.5 * np.std(true), stage


def test_the_density_image_is_still_there_after_stage_3(tiny_runs: dict[str, Path], readable_dataset: Path) -> None:
    from hierbmd.evaluation.cases import half_of
    from hierbmd.predict import load_predictor

    dataset = read_dataset(readable_dataset)
    errors = {}
    for stage in ("synthesize", "regress"):
        pair = dataset.load(dataset.of_split("test")[0])
        image = load_predictor(tiny_runs[stage]).predict_half(half_of(pair, dataset)).density.areal_g_cm2
        errors[stage] = float(np.abs(image - pair.region).mean())
    nothing = float(np.abs(pair.region).mean())
    assert errors["regress"] < 1.5 * errors["synthesize"] < nothing


def test_every_stage_is_named_by_its_configuration() -> None:
    from hierbmd.training.run import STAGES, configure

    classes = {stage: configure(stage, ["--data.folder=x"]).model for stage in STAGES}
    assert [type(classes[stage]) for stage in STAGES] == [Pretrain, Decompose, Synthesize, Regress]
    assert all(classes[stage].stage == stage for stage in STAGES)
    assert isinstance(classes["decompose"].fresh_generator, UNet)
    assert not hasattr(DensityNet, "stage")
