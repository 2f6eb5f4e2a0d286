"""What is projected: a volume as the value that each millimetre of ray adds to the image, and its structures."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadConfig, LabelsMismatch, NonFiniteVoxels, SuspectedUnit, Uncalibrated
from hierbmd.geometry import Grid
from hierbmd.io.labels import resample_labels
from hierbmd.units import G_CM2_PER_MG_CM3_MM, attenuation_per_mm_from_hu, density_mg_cm3_from_hu

WHOLE = "all"
"""The name of the one channel of a scene that was made without structures."""

MAX_STRUCTURES = 255
"""Channels are uint8 with 0 for background."""

_LARGEST_DENSITY_MG_CM3 = 6000.0
"""Above any calibrated bone (cortical bone is below 2000 mg/cm3 HA) and most metal; more means another unit."""


class Quantity(enum.StrEnum):
    """What a pixel of a projection is."""

    ATTENUATION = "attenuation"
    DENSITY = "density"
    THICKNESS = "thickness"

    @property
    def unit(self) -> str:
        """The unit of a pixel: "1" for the integral of attenuation, "g/cm2", or "mm"."""
        return {"attenuation": "1", "density": "g/cm2", "thickness": "mm"}[self.value]


@dataclass(frozen=True)
class Scene:
    """A volume ready to be projected: `values` (ni, nj, nk) float32 are pixel units per mm of ray, on `grid`.

    `channels` (ni, nj, nk) uint8 gives each voxel's structure: n for the n-th name of `structures`, from 1, and 0 for
    background, which is in no image; None means that every voxel belongs to the one structure. `memberships`
    (S, ni, nj, nk) float32 take the channels' place where borders are soft: how much of each voxel, 0 to 1, is in each
    structure. `unit` is the pixel's unit ("1", "g/cm2" or "mm") and `material` the mineral of a density;
    `calibrated_by` is the method of its calibration where one was given.
    """

    values: NDArray[np.float32]
    grid: Grid
    channels: NDArray[np.uint8] | None
    structures: tuple[str, ...]
    quantity: Quantity
    unit: str
    material: Material | None = None
    memberships: NDArray[np.float32] | None = None
    calibrated_by: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise ValueError(f"values {self.values.shape} do not fit the grid {self.grid.shape}")
        if self.memberships is not None:
            if self.channels is not None:
                raise ValueError("a scene has channels or memberships, not both")
            if self.memberships.shape != (len(self.structures), *self.grid.shape):
                raise ValueError(f"memberships {self.memberships.shape} do not fit the structures and the grid")
        elif self.channels is None and len(self.structures) != 1:
            raise ValueError("a scene without channels has one structure")
        if self.channels is not None and self.channels.shape != self.grid.shape:
            raise ValueError(f"channels {self.channels.shape} do not fit the grid {self.grid.shape}")

    def channel_values(self, channel: int) -> NDArray[np.float32]:
        """The values of one structure (from 0) with zero elsewhere, (ni, nj, nk)."""
        if self.memberships is not None:
            return np.asarray(self.memberships[channel] * self.values, dtype=np.float32)
        if self.channels is None:
            return self.values
        return np.where(self.channels == channel + 1, self.values, np.float32(0))


def make_scene(
    volume: Volume,
    labels: LabelMap | None = None,
    *,
    quantity: Quantity | str,
    structures: Sequence[str] = (),
    calibration: Calibration | None = None,
    memberships: NDArray[np.float32] | None = None,
) -> Scene:
    """The scene of a volume in HU (or mg/cm3 already): attenuation at 70 keV, density by a calibration, thickness.

    With `structures` each is a channel of its own, in the order given; without, one channel "all" holds every voxel.
    Labels on another grid are resampled onto the volume's in physical space. `memberships` (S, ni, nj, nk) in 0..1 on
    the volume's grid are soft labels of the structures, in place of a label map. Raises LabelsMismatch, Uncalibrated
    (density without a calibration, or of another material), NonFiniteVoxels, SuspectedUnit, BadConfig.
    """
    quantity = Quantity(quantity)
    if not np.all(np.isfinite(volume.values)):
        raise NonFiniteVoxels("the volume has values that are not finite", mend="write the image again")
    values, material = _values_per_mm(volume, quantity, calibration)
    if not structures:
        if memberships is not None:
            raise LabelsMismatch("memberships without the structures' names", mend="name one structure for each")
        if quantity is Quantity.THICKNESS:
            raise BadConfig("thickness is that of a structure", mend="give --labels and --structures")
        return Scene(values, volume.grid, None, (WHOLE,), quantity, quantity.unit, material)
    rest = (tuple(structures), quantity, quantity.unit, material)
    _require_names(structures)
    if memberships is None:
        return Scene(values, volume.grid, _channels(volume, labels, structures), *rest)
    if labels is not None:
        raise BadConfig("a label map and memberships of the same structures", mend="give one of them")
    return Scene(values, volume.grid, None, *rest, _memberships(memberships, volume.grid, structures))


def _values_per_mm(
    volume: Volume, quantity: Quantity, calibration: Calibration | None
) -> tuple[NDArray[np.float32], Material | None]:
    if quantity is Quantity.THICKNESS:
        return np.ones(volume.grid.shape, dtype=np.float32), None
    if quantity is Quantity.DENSITY:
        density, material = _density_mg_cm3(volume, calibration)
        return np.asarray(density * np.float32(G_CM2_PER_MG_CM3_MM), dtype=np.float32), material
    if volume.unit != "HU":
        raise SuspectedUnit(f"attenuation is made from HU, not {volume.unit}", mend="give the CT itself")
    return np.asarray(attenuation_per_mm_from_hu(volume.values), dtype=np.float32), None


def _density_mg_cm3(volume: Volume, calibration: Calibration | None) -> tuple[NDArray[np.float32], Material]:
    if volume.unit != "HU":
        material = _material_of(volume.unit)
        if calibration is not None and calibration.material is not material:
            raise Uncalibrated(
                f"uncalibrated: the volume is in {volume.unit}, the calibration in {calibration.material}",
                mend="HA and K2HPO4 scales are never mixed",
            )
        density = np.maximum(volume.values, np.float32(0))
    elif calibration is None:
        raise Uncalibrated(
            "uncalibrated: density needs a calibration", mend="give --calibration or --slope, --intercept"
        )
    else:
        material = calibration.material
        density = density_mg_cm3_from_hu(volume.values, slope=calibration.slope, intercept=calibration.intercept)
    _require_plausible(density)
    return density, material


def _material_of(unit: str) -> Material:
    for material in Material:
        if unit == f"mg/cm3 {material.value}":
            return material
    raise Uncalibrated(f"uncalibrated: a volume in {unit!r} is no density", mend="HU, mg/cm3 HA or mg/cm3 K2HPO4")


def _require_plausible(density_mg_cm3: NDArray[np.float32]) -> None:
    """Refuse a density that only metal or another unit explains in more than one voxel in a thousand."""
    share = float(np.mean(density_mg_cm3 > _LARGEST_DENSITY_MG_CM3))
    if share > 1e-3:
        raise SuspectedUnit(
            f"{100 * share:.1f} % of the voxels are above {_LARGEST_DENSITY_MG_CM3:.0f} mg/cm3",
            mend="slope is in mg/cm3 per HU; is the volume in HU?",
        )


def _channels(volume: Volume, labels: LabelMap | None, structures: Sequence[str]) -> NDArray[np.uint8]:
    if labels is None:
        raise LabelsMismatch("structures without a label map", mend="give --labels")
    here = labels if labels.grid == volume.grid else resample_labels(labels, volume.grid)
    return here.select(structures)


def _require_names(structures: Sequence[str]) -> None:
    if len(structures) > MAX_STRUCTURES or len(set(structures)) != len(structures):
        raise BadConfig(f"{len(structures)} structures", mend=f"at most {MAX_STRUCTURES}, each named once")


def _memberships(memberships: NDArray[np.float32], grid: Grid, structures: Sequence[str]) -> NDArray[np.float32]:
    """Memberships as float32, or LabelsMismatch for another shape, BadConfig for what is not in 0..1."""
    wanted = (len(structures), *grid.shape)
    if memberships.shape != wanted:
        raise LabelsMismatch(f"memberships {memberships.shape}, not {wanted}", mend="one volume a structure")
    # A value that is not a number is not in 0..1 either.
    if not (memberships.min() >= 0 and memberships.max() <= 1):
        raise BadConfig("memberships are not all in 0..1", mend="each is the share of a voxel in a structure")
    return np.asarray(memberships, dtype=np.float32)
