"""What a caller may set of the atlas registration; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass

from hierbmd.errors import BadConfig
from hierbmd.options import option


@dataclass(frozen=True)
class AtlasOptions:
    """Which labelled CTs carry their bones onto a CT, and how they are registered."""

    atlas: tuple[str, ...] = option("CT,LABELS of a labelled CT; more of them after it: CT,LABELS,CT,LABELS", ())
    spacing_mm: float = option("voxel size at which atlases are registered, mm", 3.0)
    control_points_mm: float = option("distance of the B-spline's control points, mm", 20.0)
    refine: bool = option("bring the carried labels to the bone's own edge", True)
    by_bone: bool = option("register each femur again by itself, for the hip is a joint", True)
    threads: int = option("threads of elastix", 1)

    def __post_init__(self) -> None:
        if len(self.atlas) % 2:
            raise BadConfig("an atlas is a CT and its labels", where=",".join(self.atlas), mend="--atlas CT,LABELS")
        if not 1.0 <= self.spacing_mm <= 6.0 or not 5.0 <= self.control_points_mm <= 100.0 or self.threads < 1:
            raise BadConfig(
                "atlas options out of range", mend="spacing 1 to 6 mm, control points 5 to 100 mm, threads 1+"
            )


ATLAS_NAMES = {
    "spacing_mm": "atlas_spacing_mm",
    "refine": "atlas_refine",
    "by_bone": "atlas_by_bone",
    "threads": "elastix_threads",
}
"""Flags whose name says whose they are, where the options are part of a command's."""
