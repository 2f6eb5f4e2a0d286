"""A picture to judge a training pair by eye: the radiograph, outlines of bones and region on it, the density."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Colour = NDArray[np.uint8]

PELVIS_RGB, FEMUR_RGB, REGION_RGB = (80, 190, 255), (255, 196, 0), (255, 60, 60)
_ENLARGED = 2
_LEAST_G_CM2 = 0.02


def pair_picture(
    radiograph: NDArray[np.float32],
    bones: NDArray[np.float32],
    region_mask: NDArray[np.uint8],
    covered: NDArray[np.bool_],
) -> Colour:
    """Three panels side by side, (2H, 6W, 3) uint8: radiograph, the same with outlines, areal density of the bones.

    Outlines: hip bone blue, femur yellow, or vertebrae in turn; measured region red. The density's white is its 99.5th
    percentile.
    """
    grey = _grey(radiograph, radiograph[covered])
    density = bones.sum(axis=0)
    outlined = grey.copy()
    for bone, colour in zip(bones, cycle((PELVIS_RGB, FEMUR_RGB)), strict=False):
        outlined[_outline(_enlarged(bone > _LEAST_G_CM2))] = colour
    outlined[_outline(_enlarged(region_mask > 0))] = REGION_RGB
    return np.hstack([grey, outlined, _grey(density, density[density > 0])])


def _grey(image: NDArray[np.float32], sample: NDArray[np.float32]) -> Colour:
    low, high = np.percentile(sample, (0.5, 99.5)) if sample.size else (0.0, 1.0)
    scaled = np.clip((image - low) / max(float(high - low), 1e-9), 0.0, 1.0)
    return np.repeat(_enlarged(np.rint(255.0 * scaled).astype(np.uint8))[..., None], 3, axis=-1)


def _enlarged(image: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.repeat(np.repeat(image, _ENLARGED, axis=0), _ENLARGED, axis=1)


def _outline(mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    inside = np.asarray(mask, dtype=bool)
    return np.asarray(inside & ~ndimage.binary_erosion(inside, border_value=1))
