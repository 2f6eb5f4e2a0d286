"""Internal calibration: the line of a CT without a phantom, from what the patient's own tissues read.

The tissues' compositions and mass densities are those of ICRU Report 44 (adipose at 0.93 g/cm3, which reads -96 HU at
70 keV as adipose does; its 0.95 would read -76), so what each reads at an energy is known. The
scan's effective energy, with the gain and the zero of its scale, is what explains their readings best; the line to
density follows from that energy by the same physics as a phantom's. This is the idea of Michalski et al., Med Eng Phys
2020;78:55-63 (air, adipose, blood, skeletal muscle, cortical bone; they maximise a correlation over energies and hold
to K2HPO4); the fit, its tolerances and the refusals here are ours.

It is less sure than a phantom: without a calibration of the method on scans with a phantom, errors of BMD of -12.6 +-
13.2 and 0.5 +- 8.8 mg/cm3 (sign of the first unverified) were found in two sets of patients (Bartenschlager et al., J
Bone Miner Res 2023, abstract). Results say that they are internally calibrated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares

from hierbmd.calibration.tissues import TissueReading, Tissues, read_tissues
from hierbmd.data.calibration import INTERNAL, Calibration, Uncertainty
from hierbmd.data.density import Material
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import TissuesNotFound, Uncalibrated
from hierbmd.physics.attenuation import (
    ADIPOSE_G_CM3,
    BLOOD_G_CM3,
    CORTICAL_BONE_G_CM3,
    MUSCLE_G_CM3,
    mass_attenuation_cm2_g,
)
from hierbmd.physics.ct_beam import CtBeam, ct_beam, density_lines

Floats = NDArray[np.float64]

NOTE = "internal calibration by the patient's own tissues: less sure than by a phantom"

_COMPOSITION = {
    "fat": ("adipose", ADIPOSE_G_CM3),
    "muscle": ("muscle", MUSCLE_G_CM3),
    "blood": ("blood", BLOOD_G_CM3),
    "cortical_bone": ("cortical_bone", CORTICAL_BONE_G_CM3),
}
_NEEDED = ("fat", "muscle", "cortical_bone")

_TOLERANCE_HU = {"air": 3.0, "fat": 5.0, "muscle": 12.0, "blood": 10.0}
_CORTICAL_SHARE = 0.08
"""How much a tissue differs between people from what it reads on average, one standard deviation (choices, unverified):
HU, and of cortical bone a share of its attenuation, for porosity and partial volume."""

_GAIN_SD, _ZERO_SD_HU = 0.005, 4.0
"""What a scanner's water calibration is trusted to."""

_ENERGY_KEV = (45.0, 95.0)
_KVP_SD_KEV = 3.0
"""Effective energies of 80 to 140 kVp behind any body, and how well the tube voltage tells them (filters differ)."""

_FARTHEST, _SLOPE_SE_SHARE = 3.0, 0.15


@dataclass(frozen=True)
class TissueFit:
    """The scale that explains the tissues: effective energy, gain and zero, with their covariance (3, 3)."""

    energy_kev: float
    gain: float
    zero_hu: float
    covariance: Floats

    def line(self, material: Material) -> Calibration:
        """The line to density of this scale."""
        return _line(np.array([self.energy_kev, self.gain, self.zero_hu]), material)


def tissue_hu(name: str, energy_kev: float) -> float:
    """What a tissue reads at one energy on a scale without error, HU; air is nothing."""
    if name == "air":
        return -1000.0
    material, density_g_cm3 = _COMPOSITION[name]
    over_water = float(mass_attenuation_cm2_g(material, energy_kev) / mass_attenuation_cm2_g("water", energy_kev))
    return 1000.0 * (density_g_cm3 * over_water - 1.0)


def calibrate_internally(
    volume: Volume, labels: LabelMap | None = None, *, material: Material = Material.HA, kvp: float | None = None
) -> Calibration:
    """The line of a CT in HU from its own air, fat, muscle, blood and cortical bone, with its errors.

    `labels` on the CT's grid say where muscle, blood and bone are, as TotalSegmentator names them; without, tissues are
    taken from the whole body by their HU, and blood is not. `kvp` narrows the energy where it is known. Errors, kinds
    of Uncalibrated: TissuesNotFound when fat, muscle or cortical bone is missing or reads what it cannot, or when the
    tissues tell the slope too poorly; Uncalibrated for a volume that is not in HU; BadConfig for a voltage of no CT.
    """
    if volume.unit != "HU":
        raise Uncalibrated(f"uncalibrated: the volume is in {volume.unit}, not HU", mend="give the CT itself")
    tissues = read_tissues(volume, labels)
    return fit_tissues(tissues, material=material, kvp=kvp)


def fit_tissues(tissues: Tissues, *, material: Material = Material.HA, kvp: float | None = None) -> Calibration:
    """The line from what the tissues read; errors as `calibrate_internally`."""
    for name in _NEEDED:
        if name not in tissues.readings:
            raise TissuesNotFound(
                f"uncalibrated: no {name.replace('_', ' ')} for an internal calibration: {tissues.missing[name]}",
                mend="give labels of the tissues, a phantom's name, or a line",
            )
    readings = list(tissues.readings.values())
    prior_kev = None if kvp is None else _energy_of(ct_beam(kvp, tissues.water_mm))
    fit = _fitted(readings, prior_kev)
    _require_explained(readings, fit)
    line = fit.line(material)
    gradient = _gradient(lambda x: np.array([_line(x, material).slope, _line(x, material).intercept]), fit)
    slope_se, intercept_se = np.sqrt(np.diag(gradient @ fit.covariance @ gradient.T))
    if slope_se > _SLOPE_SE_SHARE * line.slope:
        raise TissuesNotFound(
            f"uncalibrated: the tissues tell the slope to {slope_se / line.slope:.0%} only",
            mend="give the tube voltage (--kvp), labels, or a phantom's name",
        )
    off_hu = [_expected(one.name, fit) - one.hu for one in readings]
    notes = [NOTE, *(f"{name.replace('_', ' ')} not used: {why}" for name, why in sorted(tissues.missing.items()))]
    return Calibration(
        slope=line.slope,
        intercept=line.intercept,
        material=material,
        method=INTERNAL,
        residual_mg_cm3=line.slope * float(np.sqrt(np.mean(np.square([off_hu[n] for n in _soft(readings)])))),
        uncertainty=Uncertainty(
            float(slope_se),
            float(intercept_se),
            line.slope - 1.96 * float(slope_se),
            line.slope + 1.96 * float(slope_se),
        ),
        tissues=tuple(
            {
                "name": one.name,
                "hu": round(one.hu, 2),
                "expected_hu": round(_expected(one.name, fit), 2),
                "tolerance_hu": round(_tolerance_hu(one), 1),
                "sd_hu": round(one.sd_hu, 2),
                "voxels": one.voxels,
                "found": one.found,
            }
            for one in readings
        ),
        effective_kev=fit.energy_kev,
        notes=tuple(notes),
    )


def _soft(readings: list[TissueReading]) -> list[int]:
    return [n for n, one in enumerate(readings) if one.name != "cortical_bone"]


def _tolerance_hu(reading: TissueReading) -> float:
    if reading.name == "cortical_bone":
        return _CORTICAL_SHARE * (reading.hu + 1000.0)
    return _TOLERANCE_HU[reading.name]


def _model(name: str, x: Floats) -> float:
    return (tissue_hu(name, float(x[0])) + 1000.0) * float(x[1]) - 1000.0 + float(x[2])


def _expected(name: str, fit: TissueFit) -> float:
    return _model(name, np.array([fit.energy_kev, fit.gain, fit.zero_hu]))


def _fitted(readings: list[TissueReading], prior_kev: float | None) -> TissueFit:
    """Weighted least squares over energy, gain and zero; gain and zero are held by what a scanner is trusted to."""
    tolerance = np.array([_tolerance_hu(one) for one in readings])

    def off(x: Floats) -> Floats:
        tissue = (np.array([_model(one.name, x) - one.hu for one in readings])) / tolerance
        scale = [(x[1] - 1.0) / _GAIN_SD, x[2] / _ZERO_SD_HU]
        return np.concatenate([tissue, scale, [] if prior_kev is None else [(x[0] - prior_kev) / _KVP_SD_KEV]])

    low, high = _ENERGY_KEV
    done = least_squares(
        off, [70.0, 1.0, 0.0], bounds=([low, 0.9, -60.0], [high, 1.1, 60.0]), x_scale=[5.0, 0.005, 3.0]
    )
    energy_kev = float(done.x[0])
    if not low + 0.5 < energy_kev < high - 0.5:
        read = ", ".join(f"{one.name.replace('_', ' ')} {one.hu:.0f}" for one in readings)
        raise TissuesNotFound(
            f"uncalibrated: no beam of 80 to 140 kVp explains what the tissues read ({read} HU)",
            mend="are the values HU? give a phantom's name or a line",
        )
    return TissueFit(energy_kev, float(done.x[1]), float(done.x[2]), np.linalg.inv(done.jac.T @ done.jac))


def _require_explained(readings: list[TissueReading], fit: TissueFit) -> None:
    for one in readings:
        expected = _expected(one.name, fit)
        if abs(one.hu - expected) > _FARTHEST * _tolerance_hu(one):
            raise TissuesNotFound(
                f"uncalibrated: {one.name.replace('_', ' ')} reads {one.hu:.0f} HU, the others explain {expected:.0f}",
                mend="contrast medium, a wrong label, or values that are not HU? give a phantom's name or a line",
            )


def _line(x: Floats, material: Material) -> Calibration:
    return density_lines(_at(float(x[0])), gain=float(x[1]), offset_hu=float(x[2]))[material]


def _at(energy_kev: float) -> CtBeam:
    return CtBeam(np.array([energy_kev]), np.ones(1))


def _energy_of(beam: CtBeam) -> float:
    """The one energy at which mineral reads as it does in a beam."""
    wanted = beam.hydroxyapatite_hu_per_mg_cm3
    return float(brentq(lambda kev: _at(kev).hydroxyapatite_hu_per_mg_cm3 - wanted, 30.0, 140.0))


def _gradient(of: Callable[[Floats], Floats], fit: TissueFit) -> Floats:
    """The derivatives of (slope, intercept) by energy, gain and zero, (2, 3), by central differences."""
    x = np.array([fit.energy_kev, fit.gain, fit.zero_hu])
    columns = []
    for n, step in enumerate((0.05, 1e-4, 0.01)):
        moved = np.eye(3)[n] * step
        columns.append((of(x + moved) - of(x - moved)) / (2.0 * step))
    return np.stack(columns, axis=1)
