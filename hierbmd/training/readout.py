"""From a network's raw BMD to a calibrated one with an interval: what is fitted after the training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hierbmd.data.card import Readout
from hierbmd.evaluation.conformal import conformal_half_width
from hierbmd.models.moved import moved_copies
from hierbmd.training.data import TRAIN, VALIDATION, PairData
from hierbmd.training.stage import StageModule


@dataclass(frozen=True)
class Readings:
    """Raw and true BMD, (n,) each in g/cm2, and the patient of each."""

    raw_g_cm2: NDArray[np.float64]
    true_g_cm2: NDArray[np.float64]
    subjects: tuple[str, ...]


def read_split(module: StageModule, data: PairData, split: str, *, readings: int = 1) -> Readings | None:
    """Read every pair of a split, each `readings` times, as it is; None for a stage without BMD or an empty split."""
    records = data.real(split)
    raw: list[float] = []
    module.eval()
    with torch.no_grad():
        for batch in data.plain_loader(split) if records else ():
            read = [module.bmd_of(copy) for copy in moved_copies(batch["radiograph"].to(module.device), readings)]
            values = [one[0].double() for one in read if one is not None]
            if not values:
                return None
            raw += torch.stack(values).mean(dim=0).cpu().tolist()
    if not raw:
        return None
    true = np.array([record.bmd_g_cm2 for record in records])
    return Readings(np.array(raw), true, tuple(record.subject for record in records))


def fit_readout(module: StageModule, data: PairData, *, readings: int = 1) -> Readout | None:
    """The line from raw to true BMD on training patients, and the conformal half-width on validation patients.

    A stage that is trained on the value itself (regress) has its line, too: it learned from augmented images, and on
    images as they are its values can lie off (by 0.04 g/cm2 in a study of 100 virtual patients). None for a stage
    without BMD.
    """
    training = read_split(module, data, TRAIN, readings=readings)
    if training is None:
        return None
    slope, intercept = fit_line(training.raw_g_cm2, training.true_g_cm2)
    held_out = read_split(module, data, VALIDATION, readings=readings)
    if held_out is None:
        return Readout(slope, intercept, readings=readings)
    residuals = held_out.true_g_cm2 - (slope * held_out.raw_g_cm2 + intercept)
    half_width, level = conformal_half_width(np.abs(residuals), held_out.subjects)
    return Readout(slope, intercept, half_width, level, readings)


def fit_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Least-squares slope and intercept of y on x; a line through the mean where x does not vary."""
    if len(x) < 2 or np.ptp(x) < 1e-6:
        return 1.0, float(np.mean(y - x))
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)
