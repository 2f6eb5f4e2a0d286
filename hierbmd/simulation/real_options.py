"""How patients are made from one real CT; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass

from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.options import option


@dataclass(frozen=True)
class RealCtOptions:
    """Patients with the texture of one real CT: how far density, shape, size and fat are drawn from the original.

    Spreads are standard deviations; draws beyond 2 of them are drawn again. Each has random numbers of its own: one
    set to 0 leaves the others as they were. Sources: adult femoral head diameters vary by 5-6 % within a sex (Milner &
    Boldsen 2012); integral trabecular density of the hip by about a quarter and cortical density by 5-10 % in older
    adults (Riggs 2004, Sigurdsson 2006; rounded, unverified); the two hips of a person differ by 3-5 % in areal BMD
    (Faulkner 1995; unverified) and by 1-2 % in breadths of the femur (Auerbach & Ruff 2006; unverified).
    """

    density_sd: float = option("trabecular density, log of its factor", 0.25)
    cortex_sd: float = option("cortical density, log of its factor; drawn together with trabecular, r = 0.7", 0.10)
    side_density_sd: float = option("left against right, log of the density factor of each side's bones", 0.03)
    texture_sd: float = option("smooth variation of the density factor within bones, log", 0.06)
    warp_mm: float = option("smooth warp of the whole patient, root mean square in mm", 5.0)
    warp_scale_mm: float = option("how smooth the warp is: standard deviation of its Gaussian, mm", 45.0)
    size_sd: float = option("size of the whole patient, log", 0.05)
    side_size_sd: float = option("size of each hip region against the patient, log", 0.015)
    bmi_sd: float = option("body-mass index against the original, kg/m2: grows or thins the subcutaneous fat", 3.0)
    keep_table: bool = option("leave the scanner's table in the CT (it is warped too) instead of removing it", False)

    def __post_init__(self) -> None:
        if 0 < self.warp_mm < 0.1 or 0 < self.warp_scale_mm < 1:
            given = f"warp_mm {self.warp_mm:g}, warp_scale_mm {self.warp_scale_mm:g}"
            raise SuspectedUnit("a warp too small to be seen: metres?", where=given, mend="give mm")
        limits = {
            **{"density_sd": 0.6, "cortex_sd": 0.4, "side_density_sd": 0.2, "texture_sd": 0.3, "warp_mm": 20.0},
            **{"size_sd": 0.12, "side_size_sd": 0.06, "bmi_sd": 8.0},
        }
        for name, high in limits.items():
            if not 0 <= getattr(self, name) <= high:
                raise BadConfig(f"outside 0 to {high:g}", where=f"{name} {getattr(self, name):g}", mend="give another")
        if not 25 <= self.warp_scale_mm <= 300:
            where = f"warp_scale_mm {self.warp_scale_mm:g}"
            raise BadConfig("outside 25 to 300 mm: bones would bend within themselves", where=where)
