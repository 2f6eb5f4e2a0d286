"""How rows of a manifest become training pairs; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.options import RegionOptions
from hierbmd.data.calibration import Calibration
from hierbmd.data.halves import HalfFrame
from hierbmd.data.site import site_of
from hierbmd.errors import BadConfig
from hierbmd.io.radiograph import RadiographOptions
from hierbmd.options import option, part
from hierbmd.registration.options import RegistrationOptions


@dataclass(frozen=True)
class PairingOptions:
    """How a radiograph becomes training pairs; see each part's own options."""

    frame: HalfFrame = field(default_factory=HalfFrame, metadata=part())
    region: RegionOptions = field(default_factory=RegionOptions, metadata=part())
    registration: RegistrationOptions = field(default_factory=RegistrationOptions, metadata=part())
    keep_metal: bool = option("keep sides with metal in the bone (flagged) instead of refusing them", False)
    structures: tuple[str, ...] = option(
        "further target channels: regions of the hip (femoral_neck, ...), bones and muscles of the label map", ()
    )


@dataclass(frozen=True)
class JitterOptions:
    """How many pairs are added to each training pair, and how far the patient is moved for them (standard deviations).

    The body turns about the femoral head and shifts; the femur turns in its joint besides.
    """

    pairs: int = option("simulated pairs added to each training pair, at other poses of the patient", 0)
    rotate_deg: float = option("SD of the body's turn about each axis, deg", 4.0)
    shift_mm: float = option("SD of the body's shift along each axis, mm", 8.0)
    femur_deg: float = option("SD of the femur's turn in its joint about each axis, deg", 4.0)
    seed: int = option("seed of poses and exposures", 0)

    def __post_init__(self) -> None:
        if min(self.pairs, self.rotate_deg, self.shift_mm, self.femur_deg, self.seed) < 0:
            raise BadConfig("jitter below zero", mend="0 or more")


@dataclass(frozen=True)
class RowOptions:
    """How one row is read and made into pairs; `calibration` and `atlas` serve rows that name no file of their own."""

    pairing: PairingOptions = field(default_factory=PairingOptions, metadata=part())
    radiograph: RadiographOptions = field(default_factory=RadiographOptions, metadata=part())
    jitter: JitterOptions = field(default_factory=JitterOptions, metadata=part())
    atlas: AtlasOptions = field(default_factory=AtlasOptions, metadata=part())
    calibration: Calibration | None = None
    scheme: Path | None = option("JSON {name: id} of the label maps; TotalSegmentator v2 without", None)
    resample_tilt: bool = option("resample CTs with gantry tilt instead of refusing them", False)

    def __post_init__(self) -> None:
        region = self.pairing.region.region
        if self.jitter.pairs and not site_of(region).paired:
            raise BadConfig("jittered pairs are made of hips alone", where=region, mend="jittered 0 for the spine")
