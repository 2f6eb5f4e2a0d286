"""The line from Hounsfield units to bone mineral density."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hierbmd.data.density import Material


@dataclass(frozen=True)
class Calibration:
    """The line rho[mg/cm3] = slope * HU + intercept, of `material`.

    `method` says where it came from ("given", "phantom", "internal"). `residual_mg_cm3` is the root mean square over
    the rods, None where the line was given; `rods` lists what was read.
    """

    slope: float
    intercept: float
    material: Material = Material.HA
    method: str = "given"
    residual_mg_cm3: float | None = None
    rods: tuple[dict[str, Any], ...] = field(default=())
