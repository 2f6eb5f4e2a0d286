"""Weights and card on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hierbmd.data.card import IntensityNormalisation, ModelCard, Readout
from hierbmd.data.density import Material
from hierbmd.data.halves import HalfFrame
from hierbmd.geometry import View
from hierbmd.io.weights import read_card, read_weights, write_weights

CARD = ModelCard(
    stage="synthesize",
    structures=("total_hip",),
    network={"generator": {"name": "UNet", "settings": {"widths": [4, 8]}}, "mask": True, "head": None},
    frame=HalfFrame((32, 64), (3.2, 3.1)),
    material=Material.HA,
    region="total_hip",
    normalisation=IntensityNormalisation(1.0, 99.0, 0.25),
    readout=Readout(1.1, -0.05, 0.07, 0.9),
    sdd_mm=1150.0,
    view=View.AP,
    simulated=True,
    training={"train_patients": 5},
)


def test_weights_and_card_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = {"network.a": torch.randn(2, 3), "network.b": torch.tensor(7)}
    stamped = write_weights(tmp_path, tensors, CARD)
    read, card = read_weights(tmp_path)
    assert card == stamped == read_card(tmp_path)
    assert card.sha256
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_the_card_says_units_simulation_and_research_use(tmp_path: Path) -> None:
    write_weights(tmp_path, {"network.a": torch.zeros(1)}, CARD)
    value = json.loads((tmp_path / "card.json").read_text())
    assert value["units"]["bmd"] == "g/cm2"
    assert value["simulated"] is True
    assert value["research_use_only"].startswith("Research use only")
    assert value["frame"] == {"size_px": [32, 64], "pixel_mm": [3.2, 3.1], "canonical_side": "right"}
    assert value["normalisation"] == {"low_percentile": 1.0, "high_percentile": 99.0, "clip": 0.25}


def test_nothing_but_safetensors_and_card_is_left(tmp_path: Path) -> None:
    write_weights(tmp_path, {"network.a": torch.zeros(1)}, CARD)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "weights.safetensors"]


def test_normalisation_makes_exposures_alike() -> None:
    pixels = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    normalise = IntensityNormalisation()
    assert np.allclose(normalise.apply(pixels), normalise.apply(37.0 * pixels + 1000.0), atol=1e-4)
    low, high = np.percentile(normalise.apply(pixels), [2.0, 99.5])
    assert (low, high) == pytest.approx((0.0, 1.0), abs=1e-5)


def test_one_burnt_in_mark_does_not_change_the_scale() -> None:
    pixels = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    marked = pixels.copy()
    marked[:3, :3] = 500.0
    normalise = IntensityNormalisation()
    inside = np.s_[10:, 10:]
    assert np.allclose(normalise.apply(pixels)[inside], normalise.apply(marked)[inside], atol=0.05)


def test_a_flat_image_becomes_zero() -> None:
    assert not IntensityNormalisation().apply(np.full((4, 4), 9.0, dtype=np.float32)).any()


def test_an_interval_is_about_the_value_and_not_below_zero() -> None:
    assert Readout(interval_g_cm2=0.1).interval(0.8) == pytest.approx((0.7, 0.9))
    assert Readout(interval_g_cm2=0.1).interval(0.05) == pytest.approx((0.0, 0.15))
    assert Readout().interval(0.8) is None
