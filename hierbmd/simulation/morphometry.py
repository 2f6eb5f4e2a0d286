"""Who a virtual patient is: body, bone sizes and bone quality, drawn from published distributions.

Sources (mean and SD over adults unless a sex is named):
- neck-shaft angle 124.7 (6.2) deg, anteversion 14.5 (8.1) deg, femoral offset 42.9 (6.8) mm, women more valgus and more
  anteverted: Carmona et al., J Arthroplasty 2019, CT of 628 subjects. Anteversion 16.4 deg in women against 12.1 in
  men: Fischer et al., PLoS One 2016 (1070 CTs).
- femoral head diameter, women 43.5 (2.3) mm, men 49.5 (2.6) mm: Milner & Boldsen, J Forensic Sci 2012 (unverified
  digits).
- inter-hip-centre distance about 180 mm, pelvis wider and lower in women: Fischer et al., Clin Biomech 2020
  (unverified).
- diaphyseal outer diameter about 27 (women) and 30 mm (men); canal flare index 3.4 (0.5): Carmona et al. 2019; Noble et
  al., Clin Orthop 1988.
- height and body-mass index: NHANES 2015-2018 means and SD of adults over 40, women 160 (7) cm, 29.5 (6.5) kg/m2, men
  174 (7.5) cm, 29 (5.2) kg/m2 (rounded); the index is drawn log-normally and kept between 17 and 42.
- mean areal BMD of total hip and L1-L4 by age and sex: NHANES 2005-2010 (`population`), as T-scores of young adults.
- trabecular loss exceeds cortical: integral -23 % against trabecular -33 % from 20 to 90 years in women (Brance et al.,
  J Bone Metab 2024), which sets the exponents of `BoneQuality`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hierbmd.data.density import REFERENCES, Reference, ReferenceName
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.population import POPULATION, Site

SIDES = ("left", "right")

ImplantKind = Literal["none", "arthroplasty", "nail", "screws"]


@dataclass(frozen=True)
class Body:
    """Sex ("F" or "M"), age in years, height, weight; `bmi_kg_m2` is the body-mass index."""

    sex: str
    age_years: float
    height_cm: float
    bmi_kg_m2: float

    @property
    def weight_kg(self) -> float:
        """Weight from height and body-mass index."""
        return self.bmi_kg_m2 * (self.height_cm / 100.0) ** 2


@dataclass(frozen=True)
class FemurSize:
    """One proximal femur: the morphometry of the module's sources, mm and degrees."""

    head_radius_mm: float
    neck_shaft_deg: float
    anteversion_deg: float
    offset_mm: float
    shaft_radius_mm: float
    neck_width: float
    trochanter: float
    inclination_deg: float
    rotation_deg: float
    flexion_deg: float


@dataclass(frozen=True)
class PelvisSize:
    """A pelvis: scale factors about the mean female one and the distance between the hip centres, mm."""

    half_hip_distance_mm: float
    height: float
    width: float
    depth: float
    wing_flare_mm: float
    tilt_deg: float


@dataclass(frozen=True)
class BoneQuality:
    """How dense: the drawn T-score, and factors about a young woman's cortex thickness and density and trabeculae."""

    t_score_drawn: float
    cortex_thickness: float
    cortex_density: float
    trabecular: float


@dataclass(frozen=True)
class Anatomy:
    """All that was drawn for one patient; pairs are (left, right).

    `arthritis` is 0 for none to 1 for the worst; `spine` is the bone quality of T12 to L5.
    """

    body: Body
    femora: tuple[FemurSize, FemurSize]
    pelvis: PelvisSize
    quality: tuple[BoneQuality, BoneQuality]
    spine: BoneQuality
    arthritis: tuple[float, float] = (0.0, 0.0)
    implants: tuple[ImplantKind, ImplantKind] = ("none", "none")


def draw_anatomy(rng: np.random.Generator, options: PatientOptions) -> Anatomy:
    """Draw one patient: the body first, then sizes that follow height and sex, then bone quality by age and sex.

    Spine and disease have random numbers of their own: a share changes no patient but those whom it makes ill.
    """
    spine_rng, disease_rng = rng.spawn(2)
    body = _draw_body(rng, options)
    size = (body.height_cm - (160.0 if body.sex == "F" else 174.0)) / 7.0
    femur = _draw_femur(rng, body, size)
    quality = _draw_quality(rng, body, options)
    femora = (_other_side(rng, femur), _other_side(rng, femur))
    pelvis = _draw_pelvis(rng, body, size)
    sides = (_other_quality(rng, quality), _other_quality(rng, quality))
    arthritis, implants = draw_disease(disease_rng, options)
    return Anatomy(
        body=body,
        femora=femora,
        pelvis=pelvis,
        quality=(_in_arthritis(sides[0], arthritis[0]), _in_arthritis(sides[1], arthritis[1])),
        spine=_draw_spine(spine_rng, body, quality),
        arthritis=arthritis,
        implants=implants,
    )


def _draw_body(rng: np.random.Generator, options: PatientOptions) -> Body:
    sex = "F" if rng.random() < options.female_share else "M"
    age = rng.uniform(options.age_min, options.age_max)
    height = rng.normal(160.0, 6.5) if sex == "F" else rng.normal(174.0, 7.0)
    bmi = float(np.clip(np.exp(rng.normal(np.log(26.5), 0.17)), 17.0, 42.0))
    return Body(sex, float(age), float(np.clip(height, 142, 200)), bmi)


def _draw_femur(rng: np.random.Generator, body: Body, size: float) -> FemurSize:
    woman = body.sex == "F"
    head = (21.8 if woman else 24.8) + 0.55 * size + rng.normal(0, 0.9)
    return FemurSize(
        head_radius_mm=float(np.clip(head, 18.5, 29)),
        neck_shaft_deg=float(np.clip(rng.normal(125.5 if woman else 124.0, 5.0), 110, 140)),
        anteversion_deg=float(np.clip(rng.normal(16.0 if woman else 12.5, 7.5), -6, 36)),
        offset_mm=float(np.clip(rng.normal(40.5 if woman else 45.5, 4.5) + 1.2 * size, 30, 58)),
        shaft_radius_mm=float(np.clip(rng.normal(13.4 if woman else 14.9, 0.9) + 0.3 * size, 11, 18)),
        neck_width=float(np.clip(rng.normal(1.0, 0.05), 0.86, 1.15)),
        trochanter=float(np.clip(rng.normal(1.0, 0.08), 0.78, 1.25)),
        inclination_deg=float(rng.normal(7.0, 1.5)),
        rotation_deg=float(rng.normal(-4.0, 6.0)),
        flexion_deg=float(rng.normal(2.0, 2.5)),
    )


def _other_side(rng: np.random.Generator, femur: FemurSize) -> FemurSize:
    """One side of a pair: within-patient differences are about a quarter of those between patients."""
    return replace(
        femur,
        head_radius_mm=femur.head_radius_mm + rng.normal(0, 0.2),
        neck_shaft_deg=femur.neck_shaft_deg + rng.normal(0, 1.4),
        anteversion_deg=femur.anteversion_deg + rng.normal(0, 2.2),
        offset_mm=femur.offset_mm + rng.normal(0, 1.0),
        shaft_radius_mm=femur.shaft_radius_mm * (1 + rng.normal(0, 0.012)),
        neck_width=femur.neck_width * (1 + rng.normal(0, 0.012)),
        trochanter=femur.trochanter * (1 + rng.normal(0, 0.02)),
        inclination_deg=femur.inclination_deg + rng.normal(0, 1.0),
        rotation_deg=femur.rotation_deg + rng.normal(0, 4.0),
        flexion_deg=femur.flexion_deg + rng.normal(0, 1.0),
    )


def _draw_pelvis(rng: np.random.Generator, body: Body, size: float) -> PelvisSize:
    woman = body.sex == "F"
    height = (1.0 if woman else 1.06) * (1 + 0.03 * size) * (1 + rng.normal(0, 0.025))
    return PelvisSize(
        half_hip_distance_mm=float(np.clip(rng.normal(89.0 if woman else 90.0, 3.5) + 1.6 * size, 76, 104)),
        height=float(np.clip(height, 0.88, 1.2)),
        width=float(np.clip((1 + 0.02 * size) * (1 + rng.normal(0, 0.03)), 0.88, 1.14)),
        depth=float(np.clip((1 + 0.02 * size) * (1 + rng.normal(0, 0.03)), 0.88, 1.14)),
        wing_flare_mm=float(rng.normal(0.0 if woman else -5.0, 4.5)),
        tilt_deg=float(rng.normal(0.0, 5.0)),
    )


def mean_t_score(site: Site, sex: str, age_years: float) -> float:
    """The mean T-score at an age: the population's mean (`population`) by the site's young-adult reference."""
    return _young(site, sex).t_score(POPULATION[site, sex].mean_g_cm2(age_years))


def _young(site: Site, sex: str) -> Reference:
    women, men = _YOUNG[site]
    return REFERENCES[women if sex == "F" else men]


_YOUNG: dict[Site, tuple[ReferenceName, ReferenceName]] = {
    "total_hip": ("nhanes3-female-total-hip", "nhanes3-male-total-hip"),
    "lumbar_l1_l4": ("nhanes-female-lumbar-l1-l4", "nhanes-male-lumbar-l1-l4"),
}


def _draw_quality(rng: np.random.Generator, body: Body, options: PatientOptions) -> BoneQuality:
    heavier = 0.045 * (body.bmi_kg_m2 - 26.5)
    t_score = mean_t_score("total_hip", body.sex, body.age_years) + heavier + rng.normal(0, options.t_score_sd)
    t_score = float(np.clip(t_score, -4.3, 3.3))
    ratio = _share_of_young(t_score, _young("total_hip", body.sex), 0.35)
    # Set so that areal density of the total hip meets the drawn T-score on average at the default 2 mm voxels (16
    # patients: +0.1 SD, the neck -0.1); men have the thicker cortex.
    thicker = 0.98 if body.sex == "F" else 1.12
    # Areal density goes with thickness x density; trabeculae fall faster than the cortex thins, and the cortex thins
    # more than it loses density.
    return BoneQuality(
        t_score_drawn=t_score,
        cortex_thickness=float(thicker * ratio**0.70 * np.exp(rng.normal(0, 0.06))),
        cortex_density=float(np.clip(ratio**0.15 * np.exp(rng.normal(0, 0.02)), 0.75, 1.1)),
        trabecular=float(ratio**1.35 * np.exp(rng.normal(0, 0.12))),
    )


def _share_of_young(t_score: float, young: Reference, least: float) -> float:
    """Areal density as a share of the young adults' mean."""
    return max(1.0 + t_score * young.sd_g_cm2 / young.mean_g_cm2, least)


def _other_quality(rng: np.random.Generator, quality: BoneQuality) -> BoneQuality:
    return replace(
        quality,
        cortex_thickness=quality.cortex_thickness * float(np.exp(rng.normal(0, 0.02))),
        trabecular=quality.trabecular * float(np.exp(rng.normal(0, 0.035))),
    )


_SPINE_HIP_R = 0.65
"""Correlation of the spine's and the hip's departures from their means: 0.6-0.7 in DXA cohorts (unverified)."""


def _draw_spine(rng: np.random.Generator, body: Body, hip: BoneQuality) -> BoneQuality:
    """The spine's quality; its SD about the age's mean, 1.25 young SD, is a population's (0.13 to 0.17 g/cm2)."""
    hip_departure = (hip.t_score_drawn - mean_t_score("total_hip", body.sex, body.age_years)) / 1.25
    own = _SPINE_HIP_R * hip_departure + np.sqrt(1 - _SPINE_HIP_R**2) * rng.standard_normal()
    t_score = float(np.clip(mean_t_score("lumbar_l1_l4", body.sex, body.age_years) + 1.25 * own, -4.3, 3.5))
    ratio = _share_of_young(t_score, _young("lumbar_l1_l4", body.sex), 0.4)
    wall, trabecular = _SPINE_LEVEL[body.sex]
    return BoneQuality(
        t_score_drawn=t_score,
        cortex_thickness=float(wall * ratio**0.70 * np.exp(rng.normal(0, 0.04))),
        cortex_density=float(np.clip(ratio**0.15 * np.exp(rng.normal(0, 0.02)), 0.75, 1.1)),
        trabecular=float(trabecular * ratio**1.25 * np.exp(rng.normal(0, 0.06))),
    )


_SPINE_LEVEL = {"F": (0.98, 0.96), "M": (1.02, 1.0)}
"""Cortex and trabeculae of the spine: at 0.95 and 0.93 areal density of L1-L4 was 3 % (women) and 7 % (men) below the
drawn one (19 patients at 2 mm, slope 1.0)."""


def draw_disease(
    rng: np.random.Generator, options: PatientOptions
) -> tuple[tuple[float, float], tuple[ImplantKind, ImplantKind]]:
    """Arthritis of each hip, 0 to 1, and the implant of one: at the options' shares.

    Of those with arthritis 4 in 10 have it on both sides (assumption), the second side about as bad; severity is 0.35
    to 1 evenly. An implant is an arthroplasty in 6 of 10, a nail in 3, screws in 1 (assumption), on either side.
    """
    ill, both, first = rng.random() < options.arthritis_share, rng.random() < 0.4, int(rng.integers(2))
    severity = rng.uniform(0.35, 1.0)
    second = float(np.clip(severity + rng.normal(0.0, 0.15), 0.2, 1.0))
    worn = [0.0, 0.0]
    if ill:
        worn[first] = float(severity)
        worn[1 - first] = second if both else 0.0
    operated, side, kind = rng.random() < options.implant_share, int(rng.integers(2)), rng.random()
    implants: list[ImplantKind] = ["none", "none"]
    if operated:
        implants[side] = "arthroplasty" if kind < 0.6 else "nail" if kind < 0.9 else "screws"
    return (worn[0], worn[1]), (implants[0], implants[1])


def _in_arthritis(quality: BoneQuality, severity: float) -> BoneQuality:
    """Bone of a worn hip, which is used less: set, with the changes of the femur's shape and its sclerosis, to the mean
    differences between sides of 108 women with one-sided arthritis by QCT, total hip -6.9 %, neck +14.5 % (Uemura et
    al., Bone 2025, doi 10.1016/j.bone.2025.117456, abstract)."""
    if severity <= 0.0:
        return quality
    return replace(
        quality,
        cortex_thickness=quality.cortex_thickness * (1.0 - 0.23 * severity),
        trabecular=quality.trabecular * (1.0 - 0.23 * severity),
    )
