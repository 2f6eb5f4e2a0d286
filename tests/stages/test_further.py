"""Further channels of stage 1: regions learn as bones do; of other structures only the sums count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hierbmd.stages.decompose import Decompose
from hierbmd.stages.synthesize import Synthesize

from hierbmd.data.card import ModelCard
from hierbmd.errors import BadConfig, BadManifest
from hierbmd.io.dataset import Dataset, read_dataset, write_dataset, write_pair
from hierbmd.models.discriminator import DiscriminatorOptions
from hierbmd.models.losses import LossWeights
from hierbmd.models.registry import network_card
from hierbmd.models.unet import UNet
from hierbmd.training.data import PairData, bone_images
from hierbmd.training.stage import Begin, Start

SMALL = DiscriminatorOptions(scales=1, layers=1, filters=4)
WEIGHTS = LossWeights(l1=1.0, gradient_correlation=0.0, feature_matching=0.0, adversarial=1.0, intensity_sum=10.0)


@pytest.fixture(scope="module")
def further(hip_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few pairs with a region and a muscle beside the bones."""
    folder, here = tmp_path_factory.mktemp("further"), read_dataset(hip_dataset)
    records = [*here.of_split("train")[:6], *here.of_split("val")[:2]]
    for record in records:
        pair = here.load(record)
        muscle = np.roll(2.0 * pair.region, 9, axis=1)
        write_pair(folder, replace(pair, further=np.stack([0.5 * pair.region, muscle])))
    card = replace(here.card, regions=("femoral_neck",), structures=("gluteus_maximus",))
    write_dataset(folder, card, records)
    return read_dataset(folder)


def _begun(further: Dataset, weights: LossWeights = WEIGHTS) -> Any:
    torch.manual_seed(0)
    module: Any = Decompose(UNet((4, 8)), weights, SMALL)
    module.begin(Begin(further.card, 0.8))
    module.report = lambda *_: None
    return module


def _batch(further: Dataset) -> Any:
    return next(iter(PairData(str(further.folder), batch_size=3).plain_loader("train")))


def test_the_card_and_the_pairs_come_back(further: Dataset) -> None:
    assert (further.card.regions, further.card.structures) == (("femoral_neck",), ("gluteus_maximus",))
    batch = _batch(further)
    assert bone_images(batch).shape[1] == 4
    assert torch.equal(bone_images(batch)[:, 2], 0.5 * batch["region"][:, 0])


def test_a_muscle_may_lie_anywhere_and_a_region_may_not(further: Dataset) -> None:
    module, batch = _begun(further), _batch(further)
    loss = module.training_step(batch, 0).detach()
    elsewhere = {**batch, "further": batch["further"].clone()}
    elsewhere["further"][:, 1] = batch["further"][:, 1].roll(11, dims=-2)
    assert float(module.training_step(elsewhere, 0).detach()) == pytest.approx(float(loss), rel=1e-5)
    elsewhere["further"][:, 0] = batch["further"][:, 0].roll(11, dims=-2)
    assert abs(float(module.training_step(elsewhere, 0).detach()) - float(loss)) > 1e-3
    more = {**batch, "further": batch["further"] * torch.tensor([1.0, 1.5])[:, None, None]}
    assert abs(float(module.training_step(more, 0).detach()) - float(loss)) > 1e-3


def test_the_adversary_sees_the_bones_alone(further: Dataset) -> None:
    module, batch = _begun(further, replace(WEIGHTS, l1=0.0, intensity_sum=1e-30)), _batch(further)
    module.training_step(batch, 0).backward()
    reached = module.network.head.weight.grad.abs().amax(dim=(1, 2, 3))
    assert (reached[:2] > 1e-8).all()
    assert (reached[2:] < 1e-20).all()


def test_stage_2_starts_from_the_femur_and_not_from_a_muscle(further: Dataset) -> None:
    first = _begun(further)
    assert first.structures == ("hip", "femur", "femoral_neck", "gluteus_maximus")
    card = further.card
    made = ModelCard("decompose", first.structures, network_card(first.network), card.frame, card.material, card.region)
    second = Synthesize(None, WEIGHTS, SMALL)
    second.begin(Begin(card, 0.8, Start(first.tensors(), made)))
    assert torch.equal(second.network.head.weight[0], first.network.head.weight[1])  # type: ignore[union-attr]


def test_what_nothing_teaches_and_pairs_without_the_channels_are_refused(further: Dataset, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nothing teaches gluteus_maximus .*intensity_sum"):
        _begun(further, replace(WEIGHTS, intensity_sum=0.0))
    pair = further.load(further.records[0])
    write_pair(tmp_path, replace(pair, further=None))
    write_dataset(tmp_path, further.card, further.records[:1])
    with pytest.raises(BadManifest, match="0 further channels, the data set's card 2"):
        read_dataset(tmp_path).load(further.records[0])
