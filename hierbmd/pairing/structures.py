"""Further target channels of a pair: other regions of the site, other bones, and muscles, an image each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.areal import MeasuredSite, project_density, project_length_mm
from hierbmd.anatomy.shape import Mask
from hierbmd.calibration.line import density_volume
from hierbmd.data.calibration import Calibration
from hierbmd.data.halves import HalfCamera
from hierbmd.data.site import further_names, site_of
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Side
from hierbmd.rigid import Matrix
from hierbmd.units import LEAN_MUSCLE_HU, MUSCLE_G_CM3

MUSCLES = ("autochthon", "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "iliopsoas")
"""The muscles of TotalSegmentator v2, without their sides."""

_CM_PER_MM = 0.1


@dataclass(frozen=True)
class Structure:
    """One channel: what of which volume it shows, and the bone at whose pose it is projected.

    A muscle (`lean`) is shown as areal mass of its lean part, anything else as areal density of `volume`, mg/cm3.
    """

    volume: Volume
    mask: Mask
    moves_with: str
    lean: bool = False

    def image(self, view: HalfCamera, poses: Mapping[str, Matrix]) -> NDArray[np.float32]:
        """Its image as `view.camera` sees it, (H, W) g/cm2; RaysMissVolume when it is not on it."""
        camera, pose = view.camera, poses[self.moves_with]
        if self.lean:
            length_mm = project_length_mm(self.volume, self.mask, camera, pose)
            return np.asarray(MUSCLE_G_CM3 * _CM_PER_MM * length_mm, dtype=np.float32)
        return project_density(self.volume, self.mask, camera, pose)


@dataclass(frozen=True)
class Further:
    """What a pair shows besides its bones and its target: regions of the site, then other structures."""

    regions: tuple[str, ...] = ()
    structures: tuple[Structure, ...] = ()


NOTHING_FURTHER = Further()


def further_of(
    names: Sequence[str], measured: MeasuredSite, volume: Volume, labels: LabelMap, calibration: Calibration
) -> Further:
    """The further channels by their names: a region of the site, or NAME_SIDE or NAME of the label map.

    A structure is projected at the pose of the site's first bone (the pelvis). LabelsMismatch for a name that is
    nothing of these.
    """
    site = site_of(measured.target)
    regions, others = further_names(names, site)
    if not others:
        return Further(regions)
    density, first = density_volume(volume, calibration), site.bones[0]
    return Further(regions, tuple(_structure(name, measured.side, volume, labels, (density, first)) for name in others))


def _structure(
    name: str, side: Side, volume: Volume, labels: LabelMap, shown_and_with: tuple[Volume, str]
) -> Structure:
    density, moves_with = shown_and_with
    mask = labels.mask(_label(name, side, labels))
    if name.startswith(MUSCLES):
        low, high = LEAN_MUSCLE_HU
        return Structure(volume, mask & (volume.values >= low) & (volume.values <= high), moves_with, lean=True)
    return Structure(density, mask, moves_with)


def _label(name: str, side: Side, labels: LabelMap) -> str:
    for label in (f"{name}_{side}", name):
        if label in labels.names_present:
            return label
    raise LabelsMismatch(
        f"no {name}_{side} and no {name} in the label map", mend="label it, or leave it out of --structures"
    )
