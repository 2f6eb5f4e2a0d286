"""What a caller may set of the regions; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hierbmd.options import option

HipRegion = Literal["total_hip", "femoral_neck", "trochanter", "intertrochanter"]
"""The regions of a hip that DXA reports; hierbmd.anatomy.regions defines them."""

SpineRegion = Literal["lumbar_l1_l4", "lumbar_l1", "lumbar_l2", "lumbar_l3", "lumbar_l4"]
"""The regions of the lumbar spine that DXA reports; hierbmd.anatomy.spine defines them."""

Region = Literal[HipRegion, SpineRegion]


@dataclass(frozen=True)
class RegionOptions:
    """Which region is measured, and where the planes of the total hip are put, from the bone's own landmarks."""

    region: Region = option(
        "the region whose BMD and image a model learns; a lumbar one makes the pairs lumbar", "total_hip"
    )
    below_trochanter_mm: float = option("total hip ends this far below the lesser trochanter's end", 3.0)
    junction_shift_mm: float = option("the medial plane is moved this far along the neck, away from the head", 0.0)


AREA_VERSION = 2
"""Of what counts as a region's projected area, so that one data set has one; 1 had half a voxel more all around."""
