"""What a caller may set of an installed segmenter; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hierbmd.errors import BadConfig
from hierbmd.options import option

TOTALSEGMENTATOR = "totalsegmentator"


@dataclass(frozen=True)
class SegmenterOptions:
    """Which installed segmenter finds the bones, and how it is run."""

    segmenter: str | None = option("totalsegmentator, or the folder of a MONAI bundle", None)
    fast: bool = option("TotalSegmentator's 3 mm model in place of its 1.5 mm model", False)
    device: Literal["cpu", "gpu"] = option("where the segmenter runs", "cpu")
    limit_s: float = option("TotalSegmentator is stopped after this many seconds", 3600.0)
    trust: bool = option("evaluate expressions in the bundle's configuration that are more than plain values", False)

    def __post_init__(self) -> None:
        if self.limit_s <= 0:
            raise BadConfig("the segmenter's limit is not above zero", where=f"{self.limit_s:g}", mend="in seconds")


SEGMENTER_NAMES = {
    "fast": "segmenter_fast",
    "device": "segmenter_device",
    "limit_s": "segmenter_limit_s",
    "trust": "trust_bundle",
}
"""Flags whose name says whose they are, where the options are part of a command's."""
