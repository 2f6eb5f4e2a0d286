"""Test-time augmentation: one radiograph read several times, moved a little, so that less hangs on its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

TURN_DEG, SHIFT_PX, SCALE = 3.0, 4.0, 0.03
"""The largest motion of a copy, within what training images are moved by."""

_ROOT = 1.1673039782614187
"""The real root of x^5 = x + 1: its powers fill four dimensions evenly (Roberts' R4 sequence)."""


def moved_copies(radiograph: Tensor, readings: int) -> Iterator[Tensor]:
    """The radiographs (B, 1, H, W) as they are, then moved copies of them, `readings` in all; the same every time.

    The copies come in pairs, a motion and the one against it, so that all together they turn and shift nothing. Areal
    density is per area of the pixel wherever it lies, so a region's mean is the same in every copy.
    """
    yield radiograph
    for turn_deg, right_px, down_px, growth in motions(readings):
        cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
        size, (height, width) = math.exp(growth), radiograph.shape[-2:]
        theta = torch.tensor(
            [
                [cos / size, -sin / size * height / width, -2.0 * right_px / width],
                [sin / size * width / height, cos / size, -2.0 * down_px / height],
            ],
            dtype=radiograph.dtype,
            device=radiograph.device,
        )
        lattice = functional.affine_grid(
            theta.expand(len(radiograph), -1, -1), list(radiograph.shape), align_corners=False
        )
        yield functional.grid_sample(radiograph, lattice, padding_mode="border", align_corners=False)


def motions(readings: int) -> NDArray[np.float64]:
    """Turn against the clock, deg; shift right and down, px; log size: (readings - 1, 4), of copies alone."""
    pairs = np.arange(1, readings // 2 + 1)[:, None]
    even = (0.5 + pairs * _ROOT ** -np.arange(1.0, 5.0)) % 1.0
    drawn = (2.0 * even - 1.0) * (TURN_DEG, SHIFT_PX, SHIFT_PX, SCALE)
    return np.stack([drawn, -drawn], axis=1).reshape(-1, 4)[: readings - 1]
