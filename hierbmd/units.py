"""Every unit conversion and physical constant, with its source."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", float, NDArray[np.floating])

AIR_HU = -1000.0
"""Hounsfield value of air, by the definition of the scale."""

METAL_HU = 3000.0
"""Above this a voxel is metal: no bone reaches it (dense cortex is below 2000 HU), and many scanners clip at 3071."""

MU_WATER_PER_MM = 0.01929
"""Linear attenuation of water at 70 keV, 1/mm: NIST XCOM with coherent scatter, 0.1929 cm2/g at 1 g/cm3.

70 keV is the usual effective energy of a 120 kVp CT beam, the beam in which Hounsfield units are measured.
"""

G_CM2_PER_MG_CM3_MM = 1e-4
"""Areal density of 1 mg/cm3 over 1 mm: 1e-3 g/mg times 0.1 cm/mm."""

LSC_FACTOR = 2.77
"""Least significant change over precision error at 95 % confidence, 1.96 * sqrt(2) (ISCD official positions)."""


def attenuation_per_mm_from_hu(hu: Array) -> Array:
    """Linear attenuation in 1/mm at 70 keV from Hounsfield units: mu_water * (1 + HU / 1000), never below zero.

    Padding (-1024, -2048, -3024) and air therefore attenuate nothing.
    """
    return np.maximum(MU_WATER_PER_MM * (1.0 + hu / 1000.0), 0.0)


def density_mg_cm3_from_hu(hu: Array, *, slope: float, intercept: float) -> Array:
    """Bone mineral density in mg/cm3 from Hounsfield units: slope * HU + intercept, never below zero."""
    return np.maximum(slope * hu + intercept, 0.0)


MUSCLE_G_CM3 = 1.06
"""Density of skeletal muscle, g/cm3: 1.0597, Mendez and Keys, Metabolism 1960 (unverified digits)."""

LEAN_MUSCLE_HU = (-29.0, 150.0)
"""What counts as lean muscle on CT, HU: Mitsiopoulos et al., J Appl Physiol 1998 (unverified digits)."""
