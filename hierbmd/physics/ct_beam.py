"""The beam of a CT scanner as its Hounsfield scale sees it: what tissue and mineral read at a tube voltage.

A scanner corrects its projections for water, so that water reads 0 HU in a body of any size; what is not water reads by
its attenuation over water's, averaged over the beam that has passed the body. Bone therefore reads lower at a higher
voltage and in a larger patient, which is why a phantom is scanned along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.phantoms import density_line
from hierbmd.errors import BadConfig
from hierbmd.physics.attenuation import (
    CT_KEV,
    HYDROXYAPATITE_G_CM3,
    Energies,
    adipose_per_mm,
    mass_attenuation_cm2_g,
    soft_tissue_per_mm,
)
from hierbmd.physics.spectrum import tube_spectrum

CT_FILTRATION = "3.0 mm Al + 0.2 mm Cu"
"""The tabulated filter nearest to a scanner's: half-value layers of 5.7, 7.0, 7.9 and 8.7 mm Al at 80, 100, 120 and 140
kVp, those of 3 mm Al + 0.9 mm Ti within 3 %."""

CT_KVP = (80.0, 140.0)
"""Tube voltages that there is a beam for."""

WATER_EQUIVALENT_HU = 0.0
WATER_READS_MG_CM3 = 1000.0
"""What a phantom's water-equivalent resin reads, and the water that reads 0 HU, on a scale without error."""

_WATER_PER_MM = 0.1
"""What 1 cm2/g is in 1/mm at 1 g/cm3."""


@dataclass(frozen=True)
class CtBeam:
    """The share of each energy (n,) in the signal behind the body; `weights` (n,) sum to 1."""

    energy_kev: Energies
    weights: Energies

    def over_water(self, material: str) -> float:
        """A material's mass attenuation over water's, each averaged over the beam."""
        return self._mean(mass_attenuation_cm2_g(material, self.energy_kev)) / self._water

    @property
    def effective_kev(self) -> float:
        """The energy at which water attenuates as it does in this beam, keV."""
        energies = np.arange(20.0, 150.0, 0.1)
        return float(np.interp(-self._water, -mass_attenuation_cm2_g("water", energies), energies))

    @property
    def adipose_hu(self) -> float:
        """What adipose tissue reads, HU."""
        return 1000.0 * (self._mean(adipose_per_mm(self.energy_kev)) / (_WATER_PER_MM * self._water) - 1.0)

    @property
    def soft_tissue_hu(self) -> float:
        """What soft tissue reads, HU."""
        return 1000.0 * (self._mean(soft_tissue_per_mm(self.energy_kev)) / (_WATER_PER_MM * self._water) - 1.0)

    @property
    def hydroxyapatite_hu_per_mg_cm3(self) -> float:
        """What 1 mg/cm3 of hydroxyapatite adds to a water-equivalent solid that it displaces, HU."""
        return self.over_water("hydroxyapatite") - 1.0 / HYDROXYAPATITE_G_CM3

    @property
    def dipotassium_phosphate_over_water(self) -> float:
        """What 1 mg/cm3 of K2HPO4 reads on top of the water it is dissolved in, HU: sigma_ref of the Mindways
        equation."""
        return self.over_water("dipotassium_phosphate")

    @property
    def _water(self) -> float:
        return self._mean(mass_attenuation_cm2_g("water", self.energy_kev))

    def _mean(self, values: Energies) -> float:
        return float(np.sum(self.weights * values))


def nominal_beam() -> CtBeam:
    """The single energy of 70 keV on whose scale a virtual patient's body is given."""
    return CtBeam(np.array([CT_KEV]), np.ones(1))


def ct_beam(kvp: float, water_diameter_mm: float) -> CtBeam:
    """The beam at a tube voltage of 80-140 kVp behind a body as wide as this in water; BadConfig for other voltages.

    Its water is the mean chord of a disc, pi/4 of the diameter. The detector weighs photons by their energy: 1.4 mm of
    Gd2O2S absorb nearly all of them (Kalender, Computed Tomography, 2011).
    """
    if not CT_KVP[0] <= kvp <= CT_KVP[1]:
        raise BadConfig("no CT beam at this voltage", where=f"{kvp:g} kVp", mend="give 80 to 140")
    spectrum = tube_spectrum(kvp, CT_FILTRATION)
    chord_mm = np.pi / 4.0 * water_diameter_mm
    per_mm = _WATER_PER_MM * mass_attenuation_cm2_g("water", spectrum.energy_kev)
    signal = spectrum.fluence * spectrum.energy_kev * np.exp(-per_mm * chord_mm)
    return CtBeam(spectrum.energy_kev, signal / signal.sum())


def density_lines(beam: CtBeam, *, gain: float = 1.0, offset_hu: float = 0.0) -> dict[Material, Calibration]:
    """The line rho = slope * HU + intercept of each material on a scanner's scale.

    The scale reads (HU + 1000) * gain - 1000 + offset_hu where it should read HU. Both lines are true of one scan;
    each is of its own material.
    """
    per_ha = 1.0 / beam.hydroxyapatite_hu_per_mg_cm3
    lines = {Material.HA: (per_ha, -WATER_EQUIVALENT_HU * per_ha)}
    lines[Material.K2HPO4] = density_line(beam.dipotassium_phosphate_over_water, -WATER_READS_MG_CM3)
    shift_hu = (1000.0 - offset_hu) / gain - 1000.0
    return {
        material: Calibration(slope / gain, intercept + slope * shift_hu, material)
        for material, (slope, intercept) in lines.items()
    }
