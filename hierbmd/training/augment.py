"""Light augmentation of a pair: one small motion of all its images, then exposure and noise on the radiograph."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from hierbmd.options import option

TARGETS = ("bones", "region", "mask")


@dataclass(frozen=True)
class Augmentation:
    """How far a training pair is varied; 0 switches each off.

    A motion keeps the values of an areal-density image, because g/cm2 is per area of the pixel wherever it lies: the
    image is resampled, and neither multiplied by the change of area nor renormalised, so a region's mean stays.
    """

    rotate_deg: float = option("largest turn in the image plane, deg", 4.0)
    shift_px: float = option("largest shift, pixels of the half frame", 6.0)
    scale: float = option("largest relative change of size", 0.05)
    gamma: float = option("largest relative change of contrast exponent", 0.3)
    exposure: float = option("largest change of gain and offset of the normalised radiograph", 0.1)
    noise: float = option("largest noise SD, in units of the normalised radiograph", 0.03)
    blur_px: float = option("largest blur SD, pixels", 0.6)


def make_augment(options: Augmentation) -> Callable[[dict[str, Any], int], dict[str, Any]]:
    """A function (sample, seed) -> sample; the same seed gives the same sample, whatever ran before.

    A sample holds float32 arrays (C, H, W): "radiograph" and the TARGETS.
    """
    parts = _transforms(options)
    chain = Compose(parts)

    def augment(sample: dict[str, Any], seed: int) -> dict[str, Any]:
        if not parts:
            return sample
        chain.set_random_state(seed=seed % 2**32)
        return {name: _plain(value) for name, value in chain(sample).items()}

    return augment


def _transforms(options: Augmentation) -> list[Any]:
    x = "radiograph"
    parts: list[Any] = []
    if max(options.rotate_deg, options.shift_px, options.scale) > 0:
        keys = (x, *TARGETS)
        parts.append(
            RandAffined(
                keys,
                prob=1.0,
                rotate_range=math.radians(options.rotate_deg),
                translate_range=options.shift_px,
                scale_range=options.scale,
                mode="bilinear",
                padding_mode=("border", "zeros", "zeros", "zeros"),
            )
        )
    if options.gamma > 0:
        parts.append(RandAdjustContrastd(x, prob=0.8, gamma=(1.0 / (1.0 + options.gamma), 1.0 + options.gamma)))
    if options.exposure > 0:
        parts.append(RandScaleIntensityd(x, factors=options.exposure, prob=0.8))
        parts.append(RandShiftIntensityd(x, offsets=options.exposure, prob=0.8))
    if options.blur_px > 0:
        sigma = (0.1, max(options.blur_px, 0.1))
        parts.append(RandGaussianSmoothd(x, sigma_x=sigma, sigma_y=sigma, prob=0.3))
    if options.noise > 0:
        parts.append(RandGaussianNoised(x, prob=0.8, std=options.noise))
    return parts


def _plain(value: Any) -> Any:
    array = value.as_tensor().numpy() if hasattr(value, "as_tensor") else value
    return np.ascontiguousarray(array, dtype=np.float32) if hasattr(array, "ndim") and array.ndim else array
