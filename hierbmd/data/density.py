"""What the toolkit is for: an areal-density image and a BMD value, each with its unit, material and region."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import BadConfig
from hierbmd.geometry import Side

RESEARCH_USE_ONLY = "Research use only. Not a medical device."


class Material(enum.StrEnum):
    """The mineral whose equivalent a density is given in. Scales of different materials are never mixed."""

    HA = "HA"
    K2HPO4 = "K2HPO4"


class DensityClass(enum.StrEnum):
    """WHO classes by T-score: normal T >= -1, osteoporosis T <= -2.5, low bone mass between."""

    NORMAL = "normal"
    LOW_BONE_MASS = "low bone mass (osteopenia)"
    OSTEOPOROSIS = "osteoporosis"

    @classmethod
    def of(cls, t_score: float) -> DensityClass:
        """The class of a T-score; boundaries are T >= -1 normal and T <= -2.5 osteoporosis."""
        if t_score >= -1.0:
            return cls.NORMAL
        return cls.OSTEOPOROSIS if t_score <= -2.5 else cls.LOW_BONE_MASS


@dataclass(frozen=True)
class Reference:
    """A young-adult reference: mean and SD of areal BMD in g/cm2, with the population it was measured in."""

    name: str
    region: str
    mean_g_cm2: float
    sd_g_cm2: float

    def t_score(self, bmd_g_cm2: float) -> float:
        """(BMD - young-adult mean) / SD."""
        return (bmd_g_cm2 - self.mean_g_cm2) / self.sd_g_cm2

    def young_adult_percent(self, bmd_g_cm2: float) -> float:
        """BMD in percent of the young-adult mean; in Japan below 70 % counts as osteoporosis (unverified)."""
        return 100.0 * bmd_g_cm2 / self.mean_g_cm2


T_SCORE_FOR = "postmenopausal women and men of 50 and over"
"""Whom T-scores and their classes are for (ISCD official positions); others have none."""

LEAST_T_SCORE_AGE = 50.0

ReferenceName = Literal[
    "nhanes3-female-total-hip",
    "nhanes3-female-femoral-neck",
    "nhanes3-male-total-hip",
    "nhanes3-male-femoral-neck",
    "nhanes-female-lumbar-l1-l4",
    "nhanes-male-lumbar-l1-l4",
    "hologic-female-lumbar-l1-l4",
    "hologic-male-lumbar-l1-l4",
    "japan-female-total-hip",
    "japan-female-femoral-neck",
]

REFERENCES: dict[ReferenceName, Reference] = {
    "nhanes3-female-total-hip": Reference(
        "NHANES III, non-Hispanic white women 20-29, Hologic", "total_hip", 0.942, 0.122
    ),
    "nhanes3-female-femoral-neck": Reference(
        "NHANES III, non-Hispanic white women 20-29, Hologic", "femoral_neck", 0.858, 0.120
    ),
    "nhanes3-male-total-hip": Reference(
        "NHANES III, non-Hispanic white men 20-29, Hologic (unverified)", "total_hip", 1.041, 0.144
    ),
    "nhanes3-male-femoral-neck": Reference(
        "NHANES III, non-Hispanic white men 20-29, Hologic (unverified)", "femoral_neck", 0.934, 0.137
    ),
    "nhanes-female-lumbar-l1-l4": Reference(
        "NHANES, US women 21-30, Hologic (at second hand: Front Endocrinol 2026;17:1748490, table 3)",
        "lumbar_l1_l4",
        1.064,
        0.106,
    ),
    "nhanes-male-lumbar-l1-l4": Reference(
        "NHANES, US men 21-30, Hologic (at second hand: Front Endocrinol 2026;17:1748490, table 3)",
        "lumbar_l1_l4",
        1.057,
        0.110,
    ),
    "hologic-female-lumbar-l1-l4": Reference("Hologic, US white women (unverified)", "lumbar_l1_l4", 1.047, 0.110),
    "hologic-male-lumbar-l1-l4": Reference("Hologic, US white men (unverified)", "lumbar_l1_l4", 1.091, 0.110),
    "japan-female-total-hip": Reference(
        "Japanese women 20-29, Hologic, JSBMR 2012 (unverified)", "total_hip", 0.875, 0.100
    ),
    "japan-female-femoral-neck": Reference(
        "Japanese women 20-29, Hologic, JSBMR 2012 (unverified)", "femoral_neck", 0.790, 0.090
    ),
}
"""Young-adult references; a DXA scale, so a T-score of a QCT value is nominal.

Hips: Looker et al., Osteoporos Int 1998. ISCD takes the white women's for women of every ethnic group; for men opinions
differ. Trochanter and intertrochanter have none here: their published digits could not be confirmed.
"""


ReferenceChoice = ReferenceName | Literal["auto"]
"""A young-adult reference by name, or the one of the region that is measured."""

REGION_REFERENCES: dict[str, ReferenceName] = {
    "total_hip": "nhanes3-female-total-hip",
    "femoral_neck": "nhanes3-female-femoral-neck",
    "lumbar_l1_l4": "nhanes-female-lumbar-l1-l4",
}
"""What "auto" takes; ISCD takes the white women's for men too. Other regions have none: BMD alone is said of them."""


def reference_name(choice: ReferenceChoice, region: str) -> ReferenceName | None:
    """The name of the reference that a choice means for a region; None where "auto" finds none."""
    return REGION_REFERENCES.get(region) if choice == "auto" else choice


def reference_for(choice: ReferenceChoice, region: str) -> Reference | None:
    """The young-adult reference of a region, None where "auto" finds none; BadConfig when it is of another region."""
    name = reference_name(choice, region)
    if name is None:
        return None
    reference = REFERENCES[name]
    if reference.region != region:
        raise BadConfig(
            f"the reference is of the {reference.region}, the BMD of the {region}",
            where=name,
            mend="choose a reference of the same region",
        )
    return reference


def class_of(bmd_g_cm2: float, reference: Reference | None, *, age: float | None = None) -> DensityClass | None:
    """The class of a BMD by its T-score; None without a reference, or for one known to be under LEAST_T_SCORE_AGE."""
    if reference is None or (age is not None and age < LEAST_T_SCORE_AGE):
        return None
    return DensityClass.of(reference.t_score(bmd_g_cm2))


@dataclass(frozen=True)
class TScore:
    """A T-score and its WHO class, or None for both and the `reason` why there is none."""

    value: float | None
    density_class: DensityClass | None
    reason: str = ""


def t_score_of(bmd_g_cm2: float, reference: Reference | None, *, region: str, age_years: float | None) -> TScore:
    """The T-score of a BMD; none without a reference of its region, nor of a patient known to be younger than 50."""
    if reference is None:
        return TScore(None, None, f"no young-adult reference of the {region.replace('_', ' ')} is known here")
    if is_too_young(age_years):
        return TScore(None, None, f"T-scores are for {T_SCORE_FOR}; the patient is {age_years:g}")
    value = reference.t_score(bmd_g_cm2)
    return TScore(value, DensityClass.of(value))


def is_too_young(age_years: float | None) -> bool:
    """Whether a patient is known to be younger than those whom T-scores are for."""
    return age_years is not None and age_years < LEAST_T_SCORE_AGE


@dataclass(frozen=True)
class DensityMap:
    """An image of areal density: `areal_g_cm2` (H, W) float32 in g/cm2 of `material`; `pixel_mm` is on the detector."""

    areal_g_cm2: NDArray[np.float32]
    pixel_mm: tuple[float, float]
    region: str
    material: Material = Material.HA


@dataclass(frozen=True)
class Bmd:
    """One BMD value of one region: areal, g/cm2, with its interval (low, high) where there is one."""

    value_g_cm2: float
    region: str
    side: Side
    material: Material = Material.HA
    interval_g_cm2: tuple[float, float] | None = None
    source: str = "predicted"
