"""A figure with its interval, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
"""The level of every interval here."""


class Undefined(ValueError):
    """A figure that the data at hand cannot give; the text says why. Caught here, and turned into an `Estimate`."""


@dataclass(frozen=True)
class Estimate:
    """A figure in `unit` ("" where it has none) with its 95 % interval; what is None is explained by `reason`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    reason: str | None = None

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"an estimate is finite or None, not {number}")
        if self.reason is None and None in (self.value, self.low, self.high):
            raise ValueError("an estimate without a value or an interval says why")

    @classmethod
    def undefined(cls, reason: str, unit: str = "") -> Estimate:
        """The figure that cannot be given, and why."""
        return cls(None, unit=unit, reason=reason)

    def scaled(self, factor: float, unit: str) -> Estimate:
        """The same figure in another unit: value and interval times a factor above zero."""
        value, low, high = (None if x is None else x * factor for x in (self.value, self.low, self.high))
        return Estimate(value, low, high, unit, self.reason)

    def as_json(self) -> dict[str, Any]:
        """The figure for a result file; `reason` is left out where nothing is missing."""
        row: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit}
        return row if self.reason is None else {**row, "reason": self.reason}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Estimate:
        """The figure of a result file."""
        return cls(row["value"], row["low"], row["high"], row["unit"], row.get("reason"))
