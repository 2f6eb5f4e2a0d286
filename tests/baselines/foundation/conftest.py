"""Tiny models of the real classes with random weights, on disk as a hub has them, and runs on made-up hips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hierbmd.baselines.foundation import Options, fit
from hierbmd.baselines.foundation.random_base import write_random_base
from hierbmd.io.dataset import read_dataset, write_view
from hierbmd.training.options import LoopOptions

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_base("random-dinov2")` is the folder of a tiny model of that class, written once a seed."""
    root = tmp_path_factory.mktemp("bases")

    def base(name: str, *, seed: int = 0) -> Path:
        folder = root / f"{name}-{seed}"
        return folder if folder.is_dir() else write_random_base(name, folder, seed=seed, **TINY)

    return base


@pytest.fixture(scope="session")
def low_dataset(readable_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`readable_dataset` with every BMD 0.2 g/cm2 lower: about half of the patients have osteoporosis."""
    dataset = read_dataset(readable_dataset)
    folder = tmp_path_factory.mktemp("low") / "dataset"
    records = tuple(replace(record, bmd_g_cm2=record.bmd_g_cm2 - 0.2) for record in dataset.records)
    write_view(folder, replace(dataset, records=records))
    return folder


@pytest.fixture(scope="session")
def tiny_options(tiny_base: Callable[..., Path]) -> Callable[..., Options]:
    """Options of a run of a second or two on the tiny DINOv2."""

    def options(strategy: Any = "lora", *, epochs: int = 3, **settings: Any) -> Options:
        backbone = str(settings.pop("backbone", tiny_base("random-dinov2")))
        loop = LoopOptions(epochs=epochs, accelerator="cpu", patience=settings.pop("patience", 5))
        return Options(backbone=backbone, strategy=strategy, loop=loop, lora_rank=4, **settings)

    return options


@pytest.fixture(scope="session")
def lora_run(low_dataset: Path, tiny_options: Callable[..., Options], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short LoRA run."""
    out = tmp_path_factory.mktemp("foundation") / "lora"
    fit(low_dataset, out, tiny_options("lora"))
    return out
