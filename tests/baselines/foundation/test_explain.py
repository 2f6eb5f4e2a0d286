"""Maps of where a model looks: against closed forms, a slow twin, and models that are made to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierbmd.baselines.foundation import load
from hierbmd.baselines.foundation.explain import attention_rollout, integrated_gradients, osteoporosis_score
from hierbmd.evaluation.explanation import saliency_iou
from hierbmd.io.dataset import read_dataset


@pytest.fixture(scope="module")
def hip(low_dataset: Path) -> tuple[torch.Tensor, np.ndarray]:
    """A half image (1, 1, H, W) and its bone (H, W)."""
    dataset = read_dataset(low_dataset)
    pair = dataset.load(dataset.records[0])
    return torch.from_numpy(pair.radiograph)[None, None], np.any(pair.bones > 0, axis=0)


@pytest.mark.parametrize(("where", "iou"), [("bone", 1.0), ("away", 0.0)])
def test_integrated_gradients_of_a_model_that_is_made_to_look(hip: Any, where: str, iou: float) -> None:
    image, bone = hip
    mask = torch.from_numpy(bone if where == "bone" else ~bone)
    found = integrated_gradients(lambda x: -((x * mask) ** 2).sum((1, 2, 3)), image)
    assert saliency_iou(found[0], bone) == iou
    # Completeness: what the pixels add is the score itself, whatever its sign; of a square the integral is its value.
    assert np.allclose(found[0], (image[0, 0] * mask).numpy() ** 2, rtol=1e-4)


def test_rollout_is_the_product_of_the_layers(lora_run: Path, hip: Any) -> None:
    net = load(lora_run).net
    image, _ = hip
    scaled = (image - image.min()) / (image.max() - image.min())
    rolled = np.eye(net.patches + 1)
    with torch.no_grad():
        for layer in net.attentions(scaled):
            heads = layer[0].double().numpy()
            assert np.allclose(heads.sum(-1), 1.0, atol=1e-5)
            step = np.zeros_like(rolled)
            for i in range(len(rolled)):
                for j in range(len(rolled)):
                    step[i, j] = 0.5 * np.mean([head[i, j] for head in heads]) + 0.5 * (i == j)
            rolled = step @ rolled
    grid = torch.from_numpy(rolled[0, 1:].reshape(1, 1, *net.patch_grid).astype(np.float32))
    expected = net.processing.back(grid, (64, 32))[0, 0].numpy()
    found = attention_rollout(net, scaled)
    assert found.shape == (1, 64, 32)
    assert np.allclose(found[0], expected, atol=1e-6)
    assert net.backbone.get_base_model().config._attn_implementation == "sdpa"


def test_the_score_is_the_log_odds(lora_run: Path, hip: Any) -> None:
    net = load(lora_run).net
    with torch.no_grad():
        share = torch.softmax(net(hip[0])[0], 1)[:, 2]
        assert torch.allclose(osteoporosis_score(net)(hip[0]), torch.log(share / (1 - share)), atol=1e-5)
