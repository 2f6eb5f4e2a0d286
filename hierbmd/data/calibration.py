"""The line from Hounsfield units to bone mineral density."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hierbmd.data.density import Material


@dataclass(frozen=True)
class Uncertainty:
    """How sure a fitted line is: standard errors, and the 95 % interval of the slope (Student's t)."""

    slope_se: float
    intercept_se_mg_cm3: float
    slope_low: float
    slope_high: float


@dataclass(frozen=True)
class Drift:
    """How a scan's scale changes from the first to the last slice that was read, at `z_mm` (first, last).

    `slope_percent` is the change of what 1 mg/cm3 reads, `zero_hu` that of what no mineral reads; each with its
    standard error. `slices` were read; by slice, at `by_slice_z_mm`, there is what 1 mg/cm3 and what no mineral reads.
    """

    slope_percent: float
    slope_percent_se: float
    zero_hu: float
    zero_hu_se: float
    slices: int
    z_mm: tuple[float, float]
    by_slice_z_mm: tuple[float, ...] = ()
    by_slice_hu_per_mg: tuple[float, ...] = ()
    by_slice_zero_hu: tuple[float, ...] = ()


INTERNAL = "internal"
"""The `method` of a line from the patient's own tissues, and what a manifest's calibration column says for it."""


@dataclass(frozen=True)
class Calibration:
    """The line rho[mg/cm3] = slope * HU + intercept, of `material`.

    `method` says where it came from ("given", "phantom", "internal"). `residual_mg_cm3` is the root mean square over
    the rods or the soft tissues, None where the line was given; `rods` or `tissues` list what was read. A fitted line
    says how sure it is and, of a phantom, which it was and how the scale drifts along the scan; an internal one, by the
    patient's own tissues, which effective energy explains them.
    """

    slope: float
    intercept: float
    material: Material = Material.HA
    method: str = "given"
    residual_mg_cm3: float | None = None
    rods: tuple[dict[str, Any], ...] = field(default=())
    uncertainty: Uncertainty | None = None
    drift: Drift | None = None
    phantom: str = ""
    notes: tuple[str, ...] = ()
    tissues: tuple[dict[str, Any], ...] = field(default=())
    effective_kev: float | None = None

    @property
    def qct_source(self) -> str:
        """What a BMD of this calibration is said to come from: "qct", or that it is internally calibrated."""
        return "qct (internal calibration)" if self.method == INTERNAL else "qct"
