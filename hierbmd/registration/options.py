"""What a caller may set in a registration; every length is in mm at the patient unless it says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hierbmd.errors import BadConfig
from hierbmd.options import option
from hierbmd.units import METAL_HU

SOFT_TISSUE_HU = 40.0
"""Muscle on a CT (ICRU 44 composition, 1.05 g/cm3, lies at 40 to 60 HU): what would stand where the bone stands."""


SearchName = Literal["starts", "cma"]


@dataclass(frozen=True)
class RegistrationOptions:
    """How each bone is looked for on the radiograph, and when a pose may be called converged.

    The start ranges span the uncertainty of the start that is given: with the defaults, 5 degrees and 15 mm.
    BadConfig when a number is out of range.
    """

    search: SearchName = option("starts: least squares from many; cma: CMA-ES on gradient correlation", "starts")
    starts: int = option("how many starts around the given one; their agreement is part of the outcome", 6)
    start_rotation_deg: float = option("starts are turned by up to this, about each camera axis", 6.0)
    start_in_plane_mm: float = option("how far in plane each start looks for its bone", 20.0)
    start_depth_mm: float = option("starts are moved along the beam by up to this", 15.0)
    bound_rotation_deg: float = option("a pose that turns further from the start is at its bounds", 25.0)
    bound_in_plane_mm: float = option("a pose that moves further in plane is at its bounds", 45.0)
    bound_depth_mm: float = option("a pose that moves further along the beam is at its bounds", 90.0)
    level_pixel_mm: tuple[float, ...] = option(
        "pixel sizes on the detector to work at, coarse to fine", (8.0, 4.0, 2.0)
    )
    smoothing_px: float = option("standard deviation of the gradient filter, in pixels of each level", 1.0)
    neighbours: bool = option("other bones, at their own estimates, explain their part of the image", True)
    metal_hu: float = option("voxels above this are metal: left out of the bone, masked where they project", METAL_HU)
    around_hu: float = option(
        "what lies around the bones: soft tissue; -1000 for dry bones and phantoms", SOFT_TISSUE_HU
    )
    min_similarity: float = option("below this partial correlation a pose is not called converged", 0.5)
    max_in_plane_mm: float = option("above this in-plane standard error the image does not determine the pose", 1.0)
    agreement_mm: float = option("starts agree when they put the bone's surface this close in plane, mean", 2.0)
    min_on_image: float = option("share of the bone's surface that must project onto the image", 0.5)
    max_steps: int = option("Levenberg-Marquardt steps at each level, at most", 25)
    seed: int = option("seed of the starts", 0)

    def __post_init__(self) -> None:
        levels = tuple(float(level) for level in self.level_pixel_mm)
        object.__setattr__(self, "level_pixel_mm", levels)
        ranges = (self.start_rotation_deg, self.start_in_plane_mm, self.start_depth_mm)
        bounds = (self.bound_rotation_deg, self.bound_in_plane_mm, self.bound_depth_mm)
        if self.starts < 1 or self.max_steps < 1 or not levels or min(levels) <= 0 or self.smoothing_px <= 0:
            raise BadConfig("registration options: starts, max_steps, level_pixel_mm and smoothing_px are above zero")
        if self.search not in get_args(SearchName):
            raise BadConfig(f"no search {self.search!r}", mend="one of " + ", ".join(get_args(SearchName)))
        if min(ranges) < 0 or any(bound <= span for bound, span in zip(bounds, ranges, strict=True)):
            raise BadConfig(
                "registration options: a bound does not exceed its start range",
                where=f"start {ranges}, bound {bounds}",
                mend="give larger --bound-* or smaller --start-* values",
            )
