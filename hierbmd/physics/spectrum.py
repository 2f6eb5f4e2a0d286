"""Tube spectra from the committed table (its recipe is `recipe.py`), and what a detector makes of them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from hierbmd.errors import BadConfig
from hierbmd.physics.attenuation import mass_attenuation_cm2_g

Energies = NDArray[np.float64]

CESIUM_IODIDE_G_CM2 = 0.18
"""Areal mass of a general-radiography CsI:Tl screen: 0.5 mm at 80 % packing of 4.51 g/cm3."""


@dataclass(frozen=True)
class Spectrum:
    """Photons by energy: `fluence` (n,) photon number at `energy_kev` (n,); `name` says the tube and filters."""

    energy_kev: Energies
    fluence: Energies
    name: str

    @property
    def mean_kev(self) -> float:
        """The mean photon energy, keV."""
        return float(np.average(self.energy_kev, weights=self.fluence))

    def weights(self) -> Energies:
        """The share of an energy-integrating CsI detector's signal at each energy; they sum to 1.

        Fluence times the absorbed share (1 - exp(-mu t), all interactions counted as absorption) times the energy.
        """
        signal = self.signal()
        return np.asarray(signal / signal.sum())

    def signal(self) -> Energies:
        """What an energy-integrating CsI screen takes up at each energy, in keV times the unit of `fluence`."""
        absorbed = 1.0 - np.exp(-mass_attenuation_cm2_g("cesium_iodide", self.energy_kev) * CESIUM_IODIDE_G_CM2)
        return np.asarray(self.fluence * absorbed * self.energy_kev)

    def half_value_layer_mm_al(self) -> float:
        """The thickness of aluminium in mm that halves the air kerma of the beam."""
        kerma = self.fluence * self.energy_kev * air_absorption_cm2_g(self.energy_kev)
        per_mm = 0.1 * 2.699 * mass_attenuation_cm2_g("aluminium", self.energy_kev)
        return float(brentq(lambda mm: np.sum(kerma * np.exp(-mm * per_mm)) - 0.5 * np.sum(kerma), 0.0, 100.0))


def monoenergetic(energy_kev: float) -> Spectrum:
    """A beam of one energy, the scatter-free limit that tests hold the simulator to."""
    return Spectrum(np.array([energy_kev], dtype=np.float64), np.ones(1), f"{energy_kev:g} keV")


def tube_spectrum(kvp: float, filtration: str) -> Spectrum:
    """The spectrum of a tungsten tube: 70-140 kVp, between tabulated voltages interpolated at equal share of kVp.

    `filtration` is one of the table's: "3.0 mm Al", "3.0 mm Al + 0.1 mm Cu", "3.0 mm Al + 0.2 mm Cu". BadConfig
    otherwise.
    """
    energies, columns = _table()
    voltages = sorted({v for v, name in columns if name == filtration})
    if not voltages:
        raise BadConfig("no spectrum with this filtration", where=filtration, mend="; ".join(filtrations()))
    if not voltages[0] <= kvp <= voltages[-1]:
        raise BadConfig("tube voltage outside the table", where=f"{kvp:g} kVp", mend=f"{voltages[0]} to {voltages[-1]}")
    upper = next(v for v in voltages if v >= kvp)
    lower = max((v for v in voltages if v <= kvp), default=upper)
    share = 0.0 if upper == lower else (kvp - lower) / (upper - lower)
    # Each neighbour is stretched so that its end lies at this voltage, then the two are mixed.
    fluence = sum(
        w * np.interp(energies * v / kvp, energies, columns[v, filtration], right=0.0)
        for v, w in ((lower, 1 - share), (upper, share))
        if w > 0
    )
    kept = np.asarray(fluence) > 1e-6 * np.max(fluence)
    return Spectrum(energies[kept], np.asarray(fluence)[kept], f"{kvp:g} kVp, {filtration}")


def filtrations() -> tuple[str, ...]:
    """The filtrations that the table holds."""
    return tuple(dict.fromkeys(name for _, name in _table()[1]))


def published_half_value_layers_mm_al() -> dict[tuple[float, str], float]:
    """The half-value layers that spekpy gave with each tabulated spectrum, mm Al."""
    return {(float(m[1]), m[2]): float(m[3]) for m in map(_header, _columns()[0][1:])}


@cache
def _columns() -> tuple[list[str], NDArray[np.float64]]:
    text = files("hierbmd.physics").joinpath("spectra.csv").read_text(encoding="utf-8")
    header, *rows = list(csv.reader(text.splitlines()))
    return header, np.array(rows, dtype=np.float64)


@cache
def _table() -> tuple[Energies, dict[tuple[float, str], Energies]]:
    header, values = _columns()
    return values[:, 0], {(float(m[1]), m[2]): values[:, n + 1] for n, m in enumerate(map(_header, header[1:]))}


def _header(text: str) -> re.Match[str]:
    found = re.fullmatch(r"([\d.]+) kVp, (.*) \(HVL ([\d.]+) mm Al\)", text)
    assert found is not None, text
    return found


def air_absorption_cm2_g(energy_kev: Energies) -> Energies:
    """Mass energy absorption of air, cm2/g, 10-150 keV (NIST, Hubbell & Seltzer 1995), log-log interpolated."""
    energies = [10, 15, 20, 30, 40, 50, 60, 80, 100, 150]
    values = [4.742, 1.334, 0.5389, 0.1537, 0.06833, 0.04098, 0.03041, 0.02407, 0.02325, 0.02496]
    return np.asarray(np.exp(np.interp(np.log(energy_kev), np.log(energies), np.log(values))))
