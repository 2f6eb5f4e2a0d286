"""Areal BMD of a population by age and sex, which virtual patients are drawn after and held against.

NHANES 2005-2010 (Hologic, all ethnic groups) by decade, as Table 3 of Front Endocrinol 2026, 17:1748490 quotes it
(doi 10.3389/fendo.2026.1748490). Women's total hip after 30 years could not be read there: it is from memory of NCHS
Series 11 no. 251 (2012), unverified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Site = Literal["total_hip", "lumbar_l1_l4"]

_DECADES = (25.5, 35.5, 45.5, 55.5, 65.5, 75.5)


@dataclass(frozen=True)
class Population:
    """Mean and SD of areal BMD, g/cm2, at ages in years."""

    ages_years: tuple[float, ...]
    means_g_cm2: tuple[float, ...]
    sds_g_cm2: tuple[float, ...]

    def mean_g_cm2(self, age_years: float) -> float:
        """The mean at an age: linear between decades, level before the first, on after the last as before it."""
        ages, means = np.array(self.ages_years), np.array(self.means_g_cm2)
        slope = (means[-1] - means[-2]) / (ages[-1] - ages[-2])
        return float(np.interp(age_years, ages, means) + slope * max(age_years - ages[-1], 0.0))


POPULATION: dict[tuple[Site, str], Population] = {
    ("total_hip", "F"): Population(
        (25.5, *_DECADES[2:]), (0.971, 0.941, 0.890, 0.852, 0.783), (0.114, 0.132, 0.137, 0.135, 0.133)
    ),
    ("total_hip", "M"): Population(
        _DECADES, (1.067, 1.029, 1.040, 1.015, 0.997, 0.961), (0.120, 0.134, 0.130, 0.142, 0.137, 0.143)
    ),
    ("lumbar_l1_l4", "F"): Population(
        _DECADES, (1.064, 1.065, 1.056, 0.993, 0.952, 0.902), (0.106, 0.110, 0.134, 0.141, 0.142, 0.167)
    ),
    ("lumbar_l1_l4", "M"): Population(
        _DECADES, (1.057, 1.042, 1.051, 1.053, 1.070, 1.068), (0.110, 0.117, 0.129, 0.143, 0.142, 0.177)
    ),
}
"""By site and sex ("F" or "M")."""
