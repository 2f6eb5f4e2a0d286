"""What a caller may set of the regions; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass

from hierbmd.options import option


@dataclass(frozen=True)
class RegionOptions:
    """Where the planes of the total-hip region are put, from the bone's own landmarks."""

    below_trochanter_mm: float = option("total hip ends this far below the lesser trochanter's end", 3.0)
    junction_shift_mm: float = option("the medial plane is moved this far along the neck, away from the head", 0.0)
