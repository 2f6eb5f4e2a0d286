"""The skeletal sites that a model can be of: which bones a radiograph shows there, and which regions are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hierbmd.geometry import Side


@dataclass(frozen=True)
class SkeletalSite:
    """A site of bone densitometry: its name, the bones that are registered and projected, whether it has two sides.

    `counted` is what a patient has of it, in the plural.
    `bones` are a data set's density channels, in order, and `carriers` those that a measured region is a part of.
    """

    name: str
    counted: str
    bones: tuple[str, ...]
    carriers: tuple[str, ...]
    regions: tuple[str, ...]
    paired: bool

    def label(self, bone: str, side: Side) -> str:
        """The bone's name in a label map, as TotalSegmentator v2 has it."""
        return f"{bone}_{side}" if self.paired else f"vertebrae_{bone}"

    @property
    def of_a_patient(self) -> str:
        """Which of them stands for a patient, after "one row a patient": ISCD diagnoses by the lowest."""
        return ", the lower hip" if self.paired else ""

    def called(self, side: Side) -> str:
        """The site for a reader: "left hip", "lumbar spine"."""
        return f"{side} {self.name}" if self.paired else self.name


HIP = SkeletalSite(
    name="hip",
    counted="hips",
    bones=("hip", "femur"),
    carriers=("femur",),
    regions=("total_hip", "femoral_neck", "trochanter", "intertrochanter"),
    paired=True,
)
"""One side of a hip radiograph: the hemipelvis and the femur."""

LUMBAR_SPINE = SkeletalSite(
    name="lumbar spine",
    counted="spines",
    bones=("L1", "L2", "L3", "L4"),
    carriers=("L1", "L2", "L3", "L4"),
    regions=("lumbar_l1_l4", "lumbar_l1", "lumbar_l2", "lumbar_l3", "lumbar_l4"),
    paired=False,
)
"""A whole frontal radiograph of the lumbar spine: L1 to L4, each a bone of its own."""


def site_of(region: str) -> SkeletalSite:
    """The site that a measured region belongs to."""
    return LUMBAR_SPINE if region in LUMBAR_SPINE.regions else HIP


def further_names(names: Sequence[str], site: SkeletalSite) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that are regions of the site, and the others: the order of the channels."""
    regions = tuple(name for name in names if name in site.regions)
    return regions, tuple(name for name in names if name not in site.regions)
