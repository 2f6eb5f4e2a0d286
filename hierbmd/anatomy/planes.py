"""A picture to judge a segmentation by eye: the CT on three planes, each label's contour on it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.overlay import FEMUR_RGB, PELVIS_RGB
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.io.image import windowed
from hierbmd.rigid import Vector, transform_points

Colour = NDArray[np.uint8]

BONE_WINDOW_HU = (-350.0, 1150.0)
"""Black and white of the CT: the usual bone window, level 400 and width 1500 HU."""

_COLOURS = {
    **{"femur_left": FEMUR_RGB, "femur_right": (255, 120, 40), "hip_left": PELVIS_RGB, "hip_right": (70, 110, 255)},
    **{"sacrum": (90, 220, 90), "total_hip_left": (255, 60, 60), "total_hip_right": (255, 60, 60)},
}
_OTHERS = ((230, 110, 230), (120, 230, 200), (200, 200, 90), (190, 140, 255))
_GAP_PX = 4
_PLANES = ((0, 1, (1, 1)), (0, 2, (1, -1)), (1, 2, (1, -1)))
"""Axial, coronal, sagittal: the world axis along the columns, that along the rows, and their signs."""


def labels_picture(
    volume: Volume,
    labels: LabelMap,
    *,
    names: Iterable[str] | None = None,
    at_world_mm: Vector | None = None,
    height_px: int = 480,
) -> Colour:
    """Axial, coronal and sagittal plane side by side, (height_px, W, 3) uint8, one scale, a contour for every label.

    Seen as radiology does: the patient's left on the right of the axial and coronal planes, anterior on the sagittal
    plane's left, head up. `names` are the structures drawn (all that are there), `at_world_mm` (LPS) is where the
    planes cross: by default each plane is where most of these structures lies. The labels may be on another grid than
    the volume's. LabelsMismatch when no structure is there.
    """
    chosen = labels.names_present if names is None else [name for name in names if name in labels.names_present]
    if not chosen:
        raise LabelsMismatch("no structure to draw in the label map", mend="check its ids, or give --scheme")
    at = _fullest(labels, chosen) if at_world_mm is None else np.asarray(at_world_mm, dtype=np.float64)
    corners = volume.grid.corners_world_mm
    low, high = corners.min(axis=0), corners.max(axis=0)
    pixel_mm = float(max(high[1] - low[1], high[2] - low[2])) / (height_px - 1)
    panels = []
    for across, down, signs in _PLANES:
        points = _plane_points(at, (across, down), signs, (low, high), pixel_mm)
        grey = windowed(_sampled(volume, points), BONE_WINDOW_HU)
        panels.append(_padded(_with_contours(grey, _ids_at(labels, points), labels, chosen), height_px))
    gap = np.zeros((height_px, _GAP_PX, 3), dtype=np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def _fullest(labels: LabelMap, names: Iterable[str]) -> Vector:
    """The world point whose planes, along the grid's axes, hold most voxels of the structures; the centre of ties."""
    inside = np.isin(labels.ids, [labels.scheme[name] for name in names])
    index = np.empty(3)
    for axis in range(3):
        counts = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        index[axis] = np.median(np.flatnonzero(counts == counts.max()))
    return transform_points(labels.grid.world_from_index, index)


def _plane_points(
    at: Vector, axes: tuple[int, int], signs: tuple[int, int], extent: tuple[Vector, Vector], pixel_mm: float
) -> NDArray[np.float64]:
    """The world points (rows, columns, 3) of a plane's pixels, over the whole extent of the volume."""
    lines = []
    for axis, sign in zip(axes, signs, strict=True):
        places = np.arange(extent[0][axis], extent[1][axis] + 0.5 * pixel_mm, pixel_mm)
        lines.append(places[::sign])
    points = np.empty((len(lines[1]), len(lines[0]), 3))
    points[:] = at
    points[..., axes[0]] = lines[0][None, :]
    points[..., axes[1]] = lines[1][:, None]
    return points


def _sampled(volume: Volume, points: NDArray[np.float64]) -> NDArray[np.float32]:
    index = np.moveaxis(transform_points(volume.grid.index_from_world, points), -1, 0)
    values = ndimage.map_coordinates(volume.values, index, order=1, mode="grid-constant", cval=BONE_WINDOW_HU[0])
    return np.asarray(values, dtype=np.float32)


def _ids_at(labels: LabelMap, points: NDArray[np.float64]) -> NDArray[np.integer]:
    index = np.moveaxis(transform_points(labels.grid.index_from_world, points), -1, 0)
    return np.asarray(ndimage.map_coordinates(labels.ids, index, order=0, mode="grid-constant", cval=0))


def _with_contours(grey: NDArray[np.uint8], ids: NDArray[np.integer], labels: LabelMap, names: Iterable[str]) -> Colour:
    panel = np.repeat(grey[..., None], 3, axis=2)
    others = iter(_OTHERS * len(labels.scheme))
    for name in names:
        colour = _COLOURS.get(name) or next(others)
        inside = ids == labels.scheme[name]
        panel[inside & ~ndimage.binary_erosion(inside, border_value=1)] = colour
    return panel


def _padded(panel: Colour, height_px: int) -> Colour:
    missing = height_px - len(panel)
    if missing < 0:
        panel = panel[:height_px]
    return np.pad(panel, ((max(missing, 0) // 2, max(missing, 0) - max(missing, 0) // 2), (0, 0), (0, 0)))
