"""What is fitted after the training: the line, and the schedule."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hierbmd.evaluation.cases import predicted_cases
from hierbmd.io.dataset import read_dataset
from hierbmd.predict import load_predictor
from hierbmd.training.data import TRAIN, VALIDATION
from hierbmd.training.readout import fit_line, fit_readout
from hierbmd.training.stage import Schedule


def test_the_line_is_least_squares() -> None:
    x = np.array([0.5, 0.7, 0.9, 1.2])
    assert fit_line(x, 1.3 * x - 0.2) == pytest.approx((1.3, -0.2))


def test_a_raw_value_that_does_not_vary_keeps_its_mean() -> None:
    slope, intercept = fit_line(np.full(4, 0.6), np.array([0.7, 0.8, 0.9, 0.8]))
    assert slope * 0.6 + intercept == pytest.approx(0.8)


@pytest.mark.parametrize("stage", ["synthesize", "regress"])
def test_every_stage_with_a_value_is_set_right_on_the_training_images_as_they_are(stage: str) -> None:
    """A network that reads 0.8 of the truth and 0.05 too low; two validation patients are off by 0.02 and 0.03."""
    true = {TRAIN: [0.5, 0.7, 0.9, 1.2], VALIDATION: [0.6, 1.0]}
    wrong = {TRAIN: np.zeros(4), VALIDATION: np.array([0.02, -0.03])}
    data = SimpleNamespace(
        real=lambda split: [SimpleNamespace(bmd_g_cm2=x, subject=f"{split}{x}") for x in true[split]],
        plain_loader=lambda split: [{"radiograph": torch.tensor(0.8 * (np.array(true[split]) + wrong[split]) - 0.05)}],
    )
    module = SimpleNamespace(stage=stage, device="cpu", eval=lambda: None, bmd_of=lambda pixels: (pixels, None))
    readout = fit_readout(module, data)  # type: ignore[arg-type]
    assert (readout.slope, readout.intercept) == pytest.approx((1 / 0.8, 0.05 / 0.8))
    assert readout.interval_g_cm2 == pytest.approx(0.03)


def test_the_line_is_of_the_mean_over_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that reads a moved copy 0.2 higher: the mean of two readings is 0.1 above the truth."""
    true = [0.5, 0.7, 0.9]
    data = SimpleNamespace(
        real=lambda split: [SimpleNamespace(bmd_g_cm2=x, subject=f"{x}") for x in true] if split == TRAIN else [],
        plain_loader=lambda split: [{"radiograph": torch.tensor(true)}],
    )
    module = SimpleNamespace(stage="regress", device="cpu", eval=lambda: None, bmd_of=lambda pixels: (pixels, None))
    monkeypatch.setattr("hierbmd.training.readout.moved_copies", lambda pixels, readings: [pixels, pixels + 0.2])
    readout = fit_readout(module, data, readings=2)  # type: ignore[arg-type]
    assert (readout.slope, readout.intercept) == pytest.approx((1.0, -0.1))
    assert readout.readings == 2


def test_a_trained_model_reads_as_its_line_was_fitted(readable_dataset: Path, tiny_runs: dict[str, Path]) -> None:
    """Over the training images its errors have no mean and no trend, by as many readings of moved copies."""
    dataset = read_dataset(readable_dataset)
    records = [record for record in dataset.of_split("train") if not record.synthetic]
    predictor = load_predictor(tiny_runs["regress"])
    assert predictor.card.readout is not None
    assert predictor.card.readout.readings == 5
    read = np.array([case.bmd.value_g_cm2 for case in predicted_cases(predictor, dataset, records)])
    assert np.polyfit(read, [record.bmd_g_cm2 for record in records], 1) == pytest.approx([1.0, 0.0], abs=1e-4)


def test_the_schedule_rises_falls_and_ends_at_zero() -> None:
    schedule = Schedule("cosine", warmup=0.1)
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert Schedule("constant", warmup=0.0).factor(70, 100) == 1.0
