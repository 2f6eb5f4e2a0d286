"""The line through what a phantom's rods read: by its material's own equation, with its errors, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hierbmd.calibration.rods import RodReadings
from hierbmd.data.calibration import Calibration, Drift, Uncertainty
from hierbmd.data.density import Material
from hierbmd.data.phantoms import WATER_DISPLACED_BY_K2HPO4, WATER_MG_CM3, Phantom
from hierbmd.errors import ImplausibleLine, RodsDisagree, RodsOutOfView, ScaleDrifts

Floats = NDArray[np.float64]

_ROD_MG_CM3, _ROD_SHARE = 0.5, 0.01
"""What a rod's stated density is trusted to: weights of the fit (of the order of certificates, unverified)."""

_RMS_MG_CM3, _RMS_SHARE = 2.0, 0.01
_LARGEST_MG_CM3, _LARGEST_SHARE = 4.0, 0.02
"""Residuals beyond which rods disagree: their RMS over the degrees of freedom, and the largest; shares of density."""

_SLOPES = {Material.HA: (0.50, 1.00), Material.K2HPO4: (0.50, 1.10)}
"""mg/cm3 per HU of clinical scanners at 80 to 140 kVp: `physics.ct_beam` gives 0.60 to 0.85 for HA behind 200 to 400 mm
of water, and within a few per cent of it for K2HPO4 by the Mindways equation; other filters get a margin."""

_ZERO_HU = 40.0
_SLOPE_SE_SHARE = 0.02

_SCANNER_SHARE = 0.0015
"""What the rods' residuals do not show of a slope's error, one standard deviation: kernel, cupping and drift move all
rods alike (docs/benchmarks/calibration.md: SD of the slope's error 0.07 to 0.16 %)."""

_LEAST_SPAN_SHARE = 0.4
_DRIFT_PERCENT, _DRIFT_HU, _DRIFT_SURE = 3.0, 20.0, 3.0


@dataclass(frozen=True)
class _Line:
    """HU less water = per_mg * rho + zero, as density in tissue has it; `covariance` (2, 2) of per_mg and zero."""

    per_mg: float
    zero_hu: float
    covariance: Floats

    @property
    def slope(self) -> float:
        """mg/cm3 per HU."""
        return 1.0 / self.per_mg

    @property
    def intercept(self) -> float:
        """mg/cm3 at 0 HU."""
        return -self.zero_hu / self.per_mg


def fit_phantom(phantom: Phantom, readings: RodReadings, z_mm: Floats) -> Calibration:
    """The calibration of a scan whose slices that were read lie at `z_mm` (slices,), LPS mm.

    HA: HU = per_mg * rho + zero over the rods, turned over to rho = slope * HU + intercept (Kalender & Suess, Med Phys
    1987). K2HPO4: HU - water = sigma_ref * rho + beta_ref over the rods, and in tissue sigma_ct = sigma_ref - 0.2174,
    beta_ct = beta_ref + 999.6 (Mindways QCT PRO User's Guide v5.0, read as the Ogo toolkit's documentation gives it).
    Least squares weighted by how well a rod's density is known. Errors: RodsOutOfView, RodsDisagree, ImplausibleLine,
    ScaleDrifts.
    """
    read = readings.read
    density = np.array([rod.density_mg_cm3 for rod in phantom.rods])
    water = np.array([rod.water_mg_cm3 or 0.0 for rod in phantom.rods])
    _require_span(phantom, density, read)
    weight = 1.0 / (_ROD_MG_CM3 + _ROD_SHARE * np.abs(density[read]))
    by_slice = readings.mean_hu[read] - water[read, None]
    coefficients, covariance = _weighted(density[read], by_slice.mean(axis=1), weight)
    line = _in_tissue(phantom, coefficients, covariance)
    residual = (by_slice.mean(axis=1) - np.polyval(coefficients, density[read])) / line.per_mg
    freedom = int(read.sum()) - 2
    rms = float(np.sqrt(np.sum(residual**2) / freedom))
    _require_plausible(phantom, line)
    _require_agreement(phantom, density[read], residual, rms, read)
    uncertainty = _uncertainty(line, freedom)
    if uncertainty.slope_se > _SLOPE_SE_SHARE * line.slope:
        share = uncertainty.slope_se / line.slope
        raise RodsDisagree(
            f"the slope is known to {share:.1%} only", where=phantom.name, mend="more rods in the field of view"
        )
    return Calibration(
        slope=line.slope,
        intercept=line.intercept,
        material=phantom.material,
        method="phantom",
        residual_mg_cm3=rms,
        rods=tuple(_facts(phantom, readings, residual)),
        uncertainty=uncertainty,
        drift=_drift(phantom, density[read], by_slice, weight, z_mm),
        phantom=phantom.name,
    )


def _weighted(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Slope and zero of y over x (2,), and their covariance (2, 2) by the weighted residuals."""
    design = np.column_stack([x, np.ones_like(x)]) * weight[:, None]
    coefficients, *_ = np.linalg.lstsq(design, y * weight, rcond=None)
    off = y * weight - design @ coefficients
    variance = float(off @ off) / max(len(x) - 2, 1)
    return np.asarray(coefficients), np.asarray(variance * np.linalg.inv(design.T @ design))


def _in_tissue(phantom: Phantom, coefficients: Floats, covariance: Floats) -> _Line:
    per_mg, zero_hu = (float(c) for c in coefficients)
    if phantom.material is Material.K2HPO4:
        per_mg, zero_hu = per_mg - WATER_DISPLACED_BY_K2HPO4, zero_hu + _in_tissue_zero(phantom)
    if per_mg <= 0.0:
        raise ImplausibleLine(
            "denser rods read lower", where=phantom.name, mend="are the rods in the table's order? is it this phantom?"
        )
    return _Line(per_mg, zero_hu, covariance)


def _uncertainty(line: _Line, freedom: int) -> Uncertainty:
    """Errors of slope = 1 / per_mg and intercept = -zero / per_mg, to first order; the slope's with the scanner's."""
    fitted_se, of_scanner = float(np.sqrt(line.covariance[0, 0])) * line.slope**2, _SCANNER_SHARE * line.slope
    gradient = np.array([line.zero_hu * line.slope**2, -line.slope])
    intercept_se = float(np.sqrt(gradient @ line.covariance @ gradient))
    half = float(np.hypot(stats.t.ppf(0.975, freedom) * fitted_se, stats.norm.ppf(0.975) * of_scanner))
    return Uncertainty(float(np.hypot(fitted_se, of_scanner)), intercept_se, line.slope - half, line.slope + half)


def _require_span(phantom: Phantom, density: Floats, read: NDArray[np.bool_]) -> None:
    if np.ptp(density[read]) < _LEAST_SPAN_SHARE * np.ptp(density):
        names = ", ".join(rod.name for rod, there in zip(phantom.rods, read, strict=True) if there)
        raise RodsOutOfView(
            f"the rods in the field of view ({names}) span too few densities", where=phantom.name, mend="a larger field"
        )


def _require_plausible(phantom: Phantom, line: _Line) -> None:
    low, high = _SLOPES[phantom.material]
    if not low <= line.slope <= high:
        raise ImplausibleLine(
            f"slope {line.slope:.3f} is out of range {low:g} to {high:g} mg/cm3 {phantom.material.value} per HU",
            where=phantom.name,
            mend="is it this phantom, and are its densities in mg/cm3?",
        )
    if abs(line.zero_hu) > _ZERO_HU:
        raise ImplausibleLine(
            f"no mineral reads {line.zero_hu:.0f} HU and not about 0",
            where=phantom.name,
            mend="is it this phantom, and are the values HU?",
        )


def _require_agreement(
    phantom: Phantom, density: Floats, residual: Floats, rms: float, read: NDArray[np.bool_]
) -> None:
    names = [rod.name for rod, there in zip(phantom.rods, read, strict=True) if there]
    shares = np.abs(residual) / rod_limit_mg_cm3(density)
    worst = int(np.argmax(shares))
    limit = _RMS_MG_CM3 + _RMS_SHARE * float(np.abs(density).max())
    if rms > limit or shares[worst] > 1.0:
        raise RodsDisagree(
            f"the rods of {phantom.name} lie on no line: RMS {rms:.1f} mg/cm3, rod {names[worst]} of "
            f"{density[worst]:g} reads as {density[worst] + residual[worst]:.0f}",
            mend="the rod table of this serial, rods in its order, no metal or air across them?",
        )


def rod_limit_mg_cm3(density_mg_cm3: Floats) -> Floats:
    """How far rods (n,) of these densities may read off the line, mg/cm3."""
    return np.asarray(_LARGEST_MG_CM3 + _LARGEST_SHARE * np.abs(density_mg_cm3))


def _drift(phantom: Phantom, density: Floats, by_slice: Floats, weight: Floats, z_mm: Floats) -> Drift:
    """How the line changes along the slices; ScaleDrifts when one line cannot stand for all of them."""
    design = np.column_stack([density, np.ones_like(density)]) * weight[:, None]
    lines = np.linalg.lstsq(design, by_slice * weight[:, None], rcond=None)[0]
    length = float(z_mm[-1] - z_mm[0])
    changes = []
    for values in lines:
        fitted = stats.linregress(z_mm, values)
        changes.append((float(fitted.slope) * length, float(fitted.stderr) * length))
    percent = 100.0 / float(lines[0].mean())
    (slope, slope_se), (zero, zero_se) = changes
    ends = (float(z_mm[0]), float(z_mm[-1]))
    by_slice_values = (_rounded(z_mm, 2), _rounded(lines[0], 6), _rounded(lines[1] + _in_tissue_zero(phantom), 3))
    drift = Drift(slope * percent, slope_se * percent, zero, zero_se, len(z_mm), ends, *by_slice_values)
    for change, error, limit, unit in (
        (drift.slope_percent, drift.slope_percent_se, _DRIFT_PERCENT, "% of the slope"),
        (drift.zero_hu, drift.zero_hu_se, _DRIFT_HU, "HU at no mineral"),
    ):
        if abs(change) > limit and abs(change) > _DRIFT_SURE * error:
            raise ScaleDrifts(
                f"the scale drifts by {change:.1f} {unit} along {abs(length):.0f} mm, more than {limit:g}",
                where=phantom.name,
                mend="calibrate a shorter scan, or have the scanner calibrated",
            )
    return drift


def _in_tissue_zero(phantom: Phantom) -> float:
    return WATER_MG_CM3 if phantom.material is Material.K2HPO4 else 0.0


def _rounded(values: Floats, digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in values)


def _facts(phantom: Phantom, readings: RodReadings, residual: Floats) -> list[dict[str, Any]]:
    """What calibration.json says of each rod, those that were not read among them."""
    found = []
    off = iter(residual)
    for n, rod in enumerate(phantom.rods):
        facts: dict[str, Any] = {"name": rod.name, "density_mg_cm3": rod.density_mg_cm3}
        if rod.water_mg_cm3 is not None:
            facts["water_mg_cm3"] = rod.water_mg_cm3
        facts["read"] = bool(readings.read[n])
        if readings.read[n]:
            hu = readings.mean_hu[n]
            facts["hu"] = round(float(hu.mean()), 3)
            facts["hu_se"] = round(float(hu.std(ddof=1)) / float(np.sqrt(len(hu))), 3)
            facts["noise_hu"] = round(float(readings.sd_hu[n].mean()), 2)
            facts["residual_mg_cm3"] = round(float(next(off)), 3)
        facts["diameter_mm"] = rod.diameter_mm
        facts["read_diameter_mm"] = round(2.0 * float(readings.radius_mm[n]), 2)
        facts["axis_world_mm"] = np.round(readings.axes_world_mm[n], 3).tolist()
        found.append(facts)
    return found
