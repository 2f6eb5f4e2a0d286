"""Training pairs: a radiograph, or its half, with the areal-density images that its bones cast at their own poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.clinical import Clinical
from hierbmd.data.density import Material
from hierbmd.data.halves import HalfFrame
from hierbmd.data.site import HIP
from hierbmd.geometry import Side, View

BONES = HIP.bones
"""The channels of `TrainingPair.bones` of a hip, in order: the hemipelvis and the femur of the pair's side."""

REGION = "total_hip"
"""The region that is measured; hierbmd.anatomy.regions defines it."""

HIP_OF_SCAN = {side: f"total_hip_{side}_bmd_qct_g_cm2" for side in (Side.LEFT, Side.RIGHT)}
"""Columns of a lumbar pair's `extra`: the total hip's areal BMD from the same CT, where it holds the hip whole."""


@dataclass(frozen=True)
class PairRecord:
    """One row of `pairs.csv`: whose half this is, its BMD with the source, and how the images came to be.

    `bmd_g_cm2` is what a model learns: the manifest's value with its own `bmd_source`, or the QCT value ("qct",
    or "qct (internal calibration)").
    `bmd_qct_g_cm2` is the region's areal BMD at the standard AP view from the CT, always;
    `region_bmd_at_pose_g_cm2` the same at the radiograph's pose (what a perfect image would read). `outcomes` names a
    registration outcome for each bone. `burned_in_annotation`: the radiograph's file says that its pixels carry
    writing, so reports withhold it. `synthetic`: the radiograph was simulated from the patient's own CT at another pose
    (`prepare --jittered`), so it is for training alone. `extra` holds the manifest's unknown columns.
    """

    pair_id: str
    subject: str
    side: Side
    bmd_g_cm2: float
    bmd_source: str
    bmd_qct_g_cm2: float
    region_bmd_at_pose_g_cm2: float
    outcomes: Mapping[str, str]
    radiograph: str
    radiograph_sha256: str
    view: View
    sdd_mm: float
    source_isocentre_mm: float
    mirrored: bool
    split: str = ""
    age: float | None = None
    sex: str = ""
    height_cm: float | None = None
    weight_kg: float | None = None
    metal: bool = False
    burned_in_annotation: bool = False
    synthetic: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def clinical(self) -> Clinical:
        """What is known of the patient beside the image."""
        return Clinical(self.age, self.sex, self.height_cm, self.weight_kg)


@dataclass(frozen=True)
class TrainingPair:
    """One pair in the canonical half frame: everything (H, W), float32 unless said otherwise.

    `radiograph` is raw and bone bright; `bones` (bones, H, W) the areal density in g/cm2 of hip and femur, or of the
    vertebrae; `region` that of the measured region; `region_mask` (H, W) uint8 where the region is seen; `further`
    (K, H, W) the channels that the data set's card names besides, regions first, g/cm2, None where there are none.
    """

    record: PairRecord
    radiograph: NDArray[np.float32]
    bones: NDArray[np.float32]
    region: NDArray[np.float32]
    region_mask: NDArray[np.uint8]
    further: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        shape = self.radiograph.shape
        bones = (len(self.record.outcomes), *shape)
        fits = self.bones.shape == bones and self.region.shape == self.region_mask.shape == shape
        fits = fits and (self.further is None or self.further.shape[1:] == shape)
        if not fits:
            raise ValueError(f"the images of pair {self.record.pair_id} are not of one size {shape}")


@dataclass(frozen=True)
class DatasetCard:
    """What holds for every pair of a data set: frame, bones, region, material and, where all agree, the geometry.

    `sdd_mm`, `source_isocentre_mm` and `view` are None where the pairs differ; each pair's record says its own.
    `regions` and `structures` name further channels: regions of the hip, projected at the femur's pose, and other bones
    and muscles, which lie only about where the radiograph shows them, so that only their sums can be relied on.
    """

    frame: HalfFrame
    material: Material = Material.HA
    region: str = REGION
    bones: tuple[str, ...] = BONES
    regions: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    sdd_mm: float | None = None
    source_isocentre_mm: float | None = None
    view: View | None = None
    simulated: bool = False
