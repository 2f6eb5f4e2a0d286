"""What is known of a patient beside the image."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Clinical:
    """Age in years, sex (F, M, O), height in cm and weight in kg; None or "" where it is not known."""

    age: float | None = None
    sex: str = ""
    height_cm: float | None = None
    weight_kg: float | None = None

    def numbers(self) -> dict[str, float]:
        """The variables as numbers by name, NaN where not known; `female` is 1 for F, 0 for M, not known otherwise."""
        female = {"F": 1.0, "M": 0.0}.get(self.sex)
        known = {"age": self.age, "female": female, "height_cm": self.height_cm, "weight_kg": self.weight_kg}
        return {name: math.nan if value is None else float(value) for name, value in known.items()}
