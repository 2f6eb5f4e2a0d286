"""What a virtual patient and a virtual radiograph are made with; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass

from hierbmd.errors import BadConfig
from hierbmd.options import option


@dataclass(frozen=True)
class PatientOptions:
    """Virtual patients: who they are and how finely they are scanned."""

    seed: int = option("seed of the whole cohort; with the patient's number it gives the patient", 0)
    spacing_mm: float = option("voxel size of the CT, isotropic, mm", 2.0)
    age_min: float = option("youngest age in years", 45.0)
    age_max: float = option("oldest age in years", 90.0)
    female_share: float = option("share of women", 0.75)
    t_score_sd: float = option("spread of bone density about its mean for age and sex, in young-adult SD", 1.25)
    ct_noise_hu: float = option("standard deviation of the CT noise at the voxel size, HU", 12.0)

    def __post_init__(self) -> None:
        if not 0.5 <= self.spacing_mm <= 6.0:
            raise BadConfig(
                "the voxel size is outside 0.5 to 6 mm", where=f"spacing_mm {self.spacing_mm}", mend="in mm"
            )
        if not 18 <= self.age_min <= self.age_max <= 110:
            raise BadConfig("ages are outside 18 to 110 years or reversed", where=f"{self.age_min}, {self.age_max}")
        if not 0 <= self.female_share <= 1 or not 0 <= self.t_score_sd <= 3 or not 0 <= self.ct_noise_hu <= 200:
            raise BadConfig(
                "out of range", where="female_share, t_score_sd or ct_noise_hu", mend="0 to 1, 0 to 3, 0 to 200"
            )
