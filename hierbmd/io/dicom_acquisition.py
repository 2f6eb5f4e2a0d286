"""How a radiograph was taken, in the tags of the X-ray acquisition, collimator, shutter and exposure index modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Vertices = tuple[tuple[int, int], ...]
"""(row, column) of corners, from 1 as DICOM counts."""


@dataclass(frozen=True)
class AcquisitionTags:
    """What DICOM can say of an exposure; None: not known, and the tag stays out.

    `exposure_index` is IEC 62494-1's, 100 times the detector air kerma in uGy, beside the target that it is held to.
    `field` and `shutter` are the corners of the collimated field and of what the display leaves unblackened.
    """

    kvp: float | None = None
    filter_material: str | None = None
    focal_spot_mm: float | None = None
    grid: bool | None = None
    exposure_index: float | None = None
    target_exposure_index: float | None = None
    field: Vertices | None = None
    shutter: Vertices | None = None


def describe_acquisition(dataset: FileDataset, tags: AcquisitionTags) -> None:
    """Set the tags of what is known (PS3.3 C.8.7.2, C.8.7.3, C.7.6.11, C.8.11.3)."""
    from math import log10

    if tags.kvp is not None:
        dataset.KVP = f"{tags.kvp:.1f}"
    if tags.filter_material is not None:
        dataset.AnodeTargetMaterial = "TUNGSTEN"
        dataset.FilterMaterial = tags.filter_material.split("\\")
    if tags.focal_spot_mm is not None:
        dataset.FocalSpots = f"{tags.focal_spot_mm:g}"
    if tags.grid is not None:
        dataset.Grid = "FOCUSED" if tags.grid else "NONE"
    if tags.exposure_index is not None and tags.target_exposure_index is not None:
        dataset.ExposureIndex = f"{tags.exposure_index:.1f}"
        dataset.TargetExposureIndex = f"{tags.target_exposure_index:.1f}"
        dataset.DeviationIndex = f"{10.0 * log10(tags.exposure_index / tags.target_exposure_index):.2f}"
    if tags.field is not None:
        dataset.CollimatorShape = "POLYGONAL"
        dataset.VerticesOfThePolygonalCollimator = [n for corner in tags.field for n in corner]
    if tags.shutter is not None:
        dataset.ShutterShape, dataset.ShutterPresentationValue = "POLYGONAL", 0
        dataset.VerticesOfThePolygonalShutter = [n for corner in tags.shutter for n in corner]
