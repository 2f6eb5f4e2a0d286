"""The line from Hounsfield units to bone mineral density: given by the user, checked, and applied."""

from __future__ import annotations

import numpy as np

from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import Volume
from hierbmd.errors import SuspectedUnit, Uncalibrated
from hierbmd.units import density_mg_cm3_from_hu

_SLOPES = (0.3, 2.5)
_INTERCEPTS_MG_CM3 = (-250.0, 250.0)
"""What a clinical scanner can give between 80 and 140 kVp: slopes near 0.6 to 1.3 mg/cm3 a HU and intercepts within
some tens of mg/cm3 are usual for HA and for K2HPO4 phantoms; twice that is another unit, not another scanner."""


def given_calibration(slope: float, intercept: float, *, material: Material = Material.HA) -> Calibration:
    """The calibration rho = slope * HU + intercept, mg/cm3 of `material`; SuspectedUnit when that unit is doubtful."""
    calibration = Calibration(float(slope), float(intercept), Material(material), method="given")
    require_plausible(calibration)
    return calibration


def require_plausible(calibration: Calibration, where: object = "") -> None:
    """Raise SuspectedUnit when slope or intercept have the size of g/cm3, of an inverse slope, or of no scanner."""
    low, high = _SLOPES
    if not low <= calibration.slope <= high:
        raise SuspectedUnit(
            f"slope {calibration.slope:g} is out of range {low:g} to {high:g} mg/cm3 per HU",
            where=where,
            mend=_suspected(calibration.slope),
        )
    low, high = _INTERCEPTS_MG_CM3
    if not low <= calibration.intercept <= high:
        raise SuspectedUnit(
            f"intercept {calibration.intercept:g} is out of range {low:g} to {high:g} mg/cm3",
            where=where,
            mend="is it for raw values with an offset of 1000 or 1024, and not for HU?",
        )


def density_volume(volume: Volume, calibration: Calibration) -> Volume:
    """A CT in HU as a density volume in "mg/cm3 HA" (or K2HPO4), never below zero.

    A volume that is a density already comes back as it is when its material is the calibration's. Uncalibrated when
    the materials differ, or when the volume is neither HU nor a density; SuspectedUnit for an implausible line.
    """
    unit = f"mg/cm3 {calibration.material.value}"
    if volume.unit == unit:
        return volume
    if volume.unit != "HU":
        raise Uncalibrated(
            f"uncalibrated: the volume is in {volume.unit}, the calibration in {unit}",
            mend="HA and K2HPO4 scales are never mixed",
        )
    require_plausible(calibration)
    density = density_mg_cm3_from_hu(volume.values, slope=calibration.slope, intercept=calibration.intercept)
    return Volume(np.asarray(density, dtype=np.float32), volume.grid, unit)


def _suspected(slope: float) -> str:
    if 0.3 <= slope * 1000.0 <= 2.5:
        return "it looks like g/cm3 per HU: multiply by 1000"
    return "rho in mg/cm3 is slope * HU + intercept; is it turned over, or another unit?"
