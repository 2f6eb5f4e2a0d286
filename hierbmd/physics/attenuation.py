"""Mass attenuation of tissues, read from the committed table (its recipe is `recipe.py`)."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import BadConfig

Energies = NDArray[np.float64]

ADIPOSE_G_CM3, SOFT_TISSUE_G_CM3, TITANIUM_G_CM3 = 0.93, 1.06, 4.43
"""Mass densities: ICRU Report 44's soft tissue; adipose a little below its 0.95, then -96 HU; Ti-6Al-4V."""

LEAD_G_CM3 = 11.35

MUSCLE_G_CM3, BLOOD_G_CM3, CORTICAL_BONE_G_CM3 = 1.05, 1.06, 1.92
"""Mass densities of ICRU Report 44: skeletal muscle, whole blood, cortical bone."""

HYDROXYAPATITE_G_CM3, COLLAGEN_G_CM3 = 3.16, 1.41
"""Mass densities of bone's mineral and matrix (Currey, Bones, 2002; collagen dry)."""

COLLAGEN_PER_MINERAL = 0.40
"""Mass of organic matrix for one of mineral in bone tissue, about 28 to 70 % of dry mass (ICRP Publication 70)."""

CT_KEV = 70.0
"""The effective energy at which Hounsfield units are measured, as `units.MU_WATER_PER_MM` takes it."""


@cache
def _table() -> tuple[Energies, dict[str, Energies]]:
    text = files("hierbmd.physics").joinpath("attenuation.csv").read_text(encoding="utf-8")
    header, *rows = list(csv.reader(text.splitlines()))
    values = np.array(rows, dtype=np.float64)
    return values[:, 0], {name: values[:, n] for n, name in enumerate(header) if n}


def mass_attenuation_cm2_g(material: str, energy_kev: float | Energies) -> Energies:
    """Mass attenuation in cm2/g at energies of 10-150 keV, interpolated log-log; BadConfig for others.

    Materials are the columns of attenuation.csv: water, soft_tissue, adipose, hydroxyapatite, collagen, titanium,
    aluminium, cesium_iodide, dipotassium_phosphate, lead, muscle, blood, cortical_bone. Coherent scatter is included,
    as XCOM's total with coherent.
    """
    energies, columns = _table()
    wanted = np.asarray(energy_kev, dtype=np.float64)
    if material not in columns:
        raise BadConfig("no attenuation table", where=material, mend="one of " + ", ".join(columns))
    if np.any(wanted < energies[0]) or np.any(wanted > energies[-1]):
        raise BadConfig("energy outside 10-150 keV", where=f"{np.min(wanted)} to {np.max(wanted)}", mend="give keV")
    return np.asarray(np.exp(np.interp(np.log(wanted), np.log(energies), np.log(columns[material]))))


def soft_tissue_per_mm(energy_kev: float | Energies) -> Energies:
    """Linear attenuation of soft tissue (ICRU 44), 1/mm."""
    return 0.1 * SOFT_TISSUE_G_CM3 * mass_attenuation_cm2_g("soft_tissue", energy_kev)


def adipose_per_mm(energy_kev: float | Energies) -> Energies:
    """Linear attenuation of adipose tissue (ICRU 44), 1/mm."""
    return 0.1 * ADIPOSE_G_CM3 * mass_attenuation_cm2_g("adipose", energy_kev)


def titanium_per_mm(energy_kev: float | Energies) -> Energies:
    """Linear attenuation of implant metal, taken as titanium at the density of Ti-6Al-4V, 1/mm."""
    return 0.1 * TITANIUM_G_CM3 * mass_attenuation_cm2_g("titanium", energy_kev)


def bone_per_mm_per_g_cm3(energy_kev: float | Energies) -> Energies:
    """What 1 g/cm3 of bone mineral adds to soft tissue's linear attenuation, 1/mm.

    The mineral brings its collagen with it, and both displace soft tissue of their volume:
    mu_HA + c mu_collagen - (1/rho_HA + c/rho_collagen) mu_soft, with c = COLLAGEN_PER_MINERAL.
    """
    mineral = 0.1 * mass_attenuation_cm2_g("hydroxyapatite", energy_kev)
    matrix = 0.1 * COLLAGEN_PER_MINERAL * mass_attenuation_cm2_g("collagen", energy_kev)
    displaced = 1.0 / HYDROXYAPATITE_G_CM3 + COLLAGEN_PER_MINERAL / COLLAGEN_G_CM3
    return mineral + matrix - displaced * soft_tissue_per_mm(energy_kev)


def phantom_hu_per_mg_cm3(energy_kev: float = CT_KEV) -> float:
    """Hounsfield units for 1 mg/cm3 of hydroxyapatite in a water-equivalent phantom: the slope a scanner shows."""
    water = 0.1 * float(mass_attenuation_cm2_g("water", energy_kev))
    mineral = 0.1 * float(mass_attenuation_cm2_g("hydroxyapatite", energy_kev))
    return 1e-3 * (mineral - water / HYDROXYAPATITE_G_CM3) / water * 1000.0
