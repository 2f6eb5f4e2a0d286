"""What a patient's own tissues read on a CT: air, fat, muscle, blood and cortical bone, by labels or by their HU.

Soft tissues are read as the peak of a histogram, which noise, vessels between muscles and partial volume move little:
of a label's inside where there is one, else of the whole body's. Cortical bone is the densest quarter of what is left
of bone above 600 HU without its rim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.calibration.slices import Slices, in_stack_order, slices_of
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.units import METAL_HU

Mask = NDArray[np.bool_]
Values = NDArray[np.float32]

WINDOWS_HU = {
    "air": (-1018.0, -975.0),
    "fat": (-160.0, -45.0),
    "muscle": (5.0, 120.0),
    "blood": (5.0, 100.0),
    "cortical_bone": (600.0, 3000.0),
}
"""What a tissue can read at 80 to 140 kVp; blood above its window has contrast medium in it."""

LABELS = {
    "fat": ("subcutaneous_fat",),
    "muscle": (
        *(f"gluteus_{which}_{side}" for which in ("maximus", "medius") for side in ("left", "right")),
        *(f"{name}_{side}" for name in ("autochthon", "iliopsoas") for side in ("left", "right")),
    ),
    "blood": (
        *("aorta", "inferior_vena_cava"),
        *(f"iliac_{which}_{side}" for which in ("artery", "vena") for side in ("left", "right")),
    ),
    "cortical_bone": ("femur_left", "femur_right"),
}
"""TotalSegmentator's structures that are a tissue; `subcutaneous_fat` is of its task "tissue_types"."""

_BODY_HU = -300.0
_RIM_MM = 4.0
_MOST_SLICES = 40
_LEAST_VOXELS = 300
_SMOOTH_HU = 4.0
_CLIPPED_SHARE = 0.3


@dataclass(frozen=True)
class TissueReading:
    """What a tissue reads: `hu` and the standard deviation of the voxels taken; `found` by "label" or by "HU"."""

    name: str
    hu: float
    sd_hu: float
    voxels: int
    found: str


@dataclass(frozen=True)
class Tissues:
    """The tissues that were read, by name; `missing` says why others were not; `water_mm` is the body's size in water.

    `water_mm` is the diameter of the disc of water that attenuates as the body does (AAPM 220), the mean over slices.
    """

    readings: dict[str, TissueReading]
    missing: dict[str, str]
    water_mm: float


def read_tissues(volume: Volume, labels: LabelMap | None = None) -> Tissues:
    """Read the tissues of a CT in HU on at most 40 of its slices; `labels` must be on its grid."""
    slices = slices_of(volume)
    ids = None if labels is None else in_stack_order(labels.ids, labels.grid)
    wanted = {} if labels is None else _ids_of(labels)
    pooled: dict[str, list[Values]] = {name: [] for name in WINDOWS_HU}
    whole: dict[str, list[Values]] = {"soft": [], "cortical_bone": []}
    water_mm = []
    for k, body in _bodies(slices):
        image = slices.values[:, :, k]
        outside = slices.in_field & ~ndimage.binary_dilation(body, iterations=3)
        pooled["air"].append(image[outside])
        inner = _without_rim(body, slices)
        whole["soft"].append(image[inner])
        whole["cortical_bone"].append(_bone_core(image, inner))
        for name, mask in () if ids is None else _masks(ids[:, :, k], wanted):
            pooled[name].append(
                _bone_core(image, mask) if name == "cortical_bone" else image[_without_rim(mask, slices)]
            )
        area_mm2 = float(slices.spacing_mm[0] * slices.spacing_mm[1])
        water = np.clip(image[body] / 1000.0 + 1.0, 0.0, None).sum(dtype=np.float64)
        water_mm.append(2.0 * float(np.sqrt(water * area_mm2 / np.pi)))
    readings, missing = {}, {}
    for name in WINDOWS_HU:
        by_label = _pool(pooled[name])
        found = "HU" if name == "air" or len(by_label) < _LEAST_VOXELS else "label"
        by_hu = {"cortical_bone": "cortical_bone", "fat": "soft", "muscle": "soft"}.get(name, "")
        values = by_label if name == "air" or found == "label" else _pool(whole.get(by_hu, []))
        read = _read(name, values, found)
        if isinstance(read, str):
            missing[name] = read
        else:
            readings[name] = read
    return Tissues(readings, missing, float(np.mean(water_mm)) if water_mm else 0.0)


def _ids_of(labels: LabelMap) -> dict[str, list[int]]:
    """The ids of each tissue's structures that a label map's scheme knows."""
    return {name: [labels.scheme[one] for one in several if one in labels.scheme] for name, several in LABELS.items()}


def _masks(ids: NDArray[np.integer], wanted: dict[str, list[int]]) -> Iterator[tuple[str, Mask]]:
    """Where each tissue's labels are on a slice, for those that are there."""
    for name, numbers in wanted.items():
        mask = np.isin(ids, numbers)
        if mask.any():
            yield name, mask


def _pool(parts: list[Values]) -> Values:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _bodies(slices: Slices) -> Iterator[tuple[int, Mask]]:
    """Slices with somebody in them, and the body: the largest thing above -300 HU, holes and all, (nx, ny)."""
    count = slices.values.shape[2]
    for k in np.unique(np.linspace(0, count - 1, min(count, _MOST_SLICES)).round().astype(int)):
        parts, number = ndimage.label((slices.values[:, :, k] > _BODY_HU) & slices.in_field)
        if number:
            largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
            yield int(k), ndimage.binary_fill_holes(parts == largest)


def _without_rim(mask: Mask, slices: Slices) -> Mask:
    """A mask without its rim of 4 mm or two pixels."""
    pixel_mm = slices.spacing_mm[:2]
    away_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=pixel_mm)[1:-1, 1:-1]
    return np.asarray(away_mm > max(_RIM_MM, 2.0 * float(pixel_mm.max())))


def _bone_core(image: Values, where: Mask) -> Values:
    dense = where & (image > WINDOWS_HU["cortical_bone"][0]) & (image < METAL_HU)
    return image[ndimage.binary_erosion(dense)]


def _read(name: str, values: Values, found: str) -> TissueReading | str:
    low, high = WINDOWS_HU[name]
    if len(values) < _LEAST_VOXELS:
        return "not in the scan" if name != "cortical_bone" else "no bone thick enough for voxels of this size"
    if name == "cortical_bone":
        densest = values[values >= np.quantile(values, 0.75)]
        return TissueReading(name, float(np.median(densest)), float(densest.std()), len(densest), found)
    if found == "label" and not low <= float(np.median(values)) <= high:
        return f"its label reads {float(np.median(values)):.0f} HU, not {low:.0f} to {high:.0f}"
    inside = values[(values >= low) & (values <= high)]
    if len(inside) < max(_LEAST_VOXELS, 0.02 * len(values)):
        return f"hardly anything between {low:.0f} and {high:.0f} HU"
    lowest = float(values.min())
    if name == "air" and np.mean(values == lowest) > _CLIPPED_SHARE:
        return f"values are cut off at {lowest:.0f} HU"
    return _peak(name, inside, found)


def _peak(name: str, values: Values, found: str) -> TissueReading | str:
    """The highest peak of a histogram within a tissue's window, refined by the mean of what lies about it."""
    low, high = WINDOWS_HU[name]
    counts, edges = np.histogram(values, bins=np.arange(low, high + 1.0))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), _SMOOTH_HU)
    at = int(np.argmax(smooth))
    if at in (0, len(smooth) - 1):
        return f"no peak between {low:.0f} and {high:.0f} HU"
    above = np.flatnonzero(smooth > 0.6 * smooth[at])
    # At 0.6 of its height a normal peak is one standard deviation away.
    width = max(0.5 * float(above[-1] - above[0]), _SMOOTH_HU)
    middle = float(edges[at]) + 0.5
    for _ in range(5):
        near = values[np.abs(values - middle) < width]
        middle = float(near.mean(dtype=np.float64))
    return TissueReading(name, middle, float(near.std()), len(near), found)
