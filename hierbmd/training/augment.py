"""Light augmentation of a pair: one small motion of all its images, then exposure and noise on the radiograph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffine,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
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
    background: float = option("largest coefficient of a smooth cubic field over the image: other soft tissue", 0.1)
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
        with _without_meta():
            return {name: _plain(value) for name, value in chain(sample).items()}

    return augment


def _transforms(options: Augmentation) -> list[Any]:
    x = "radiograph"
    parts: list[Any] = []
    if max(options.rotate_deg, options.shift_px, options.scale) > 0:
        motion = RandAffine(
            prob=1.0,
            rotate_range=math.radians(options.rotate_deg),
            translate_range=options.shift_px,
            scale_range=options.scale,
            mode="bilinear",
            padding_mode="border",
        )
        parts.append(_MoveTogether(motion))
    if options.gamma > 0:
        parts.append(RandAdjustContrastd(x, prob=0.8, gamma=(1.0 / (1.0 + options.gamma), 1.0 + options.gamma)))
    if options.exposure > 0:
        parts.append(RandScaleIntensityd(x, factors=options.exposure, prob=0.8))
        parts.append(RandShiftIntensityd(x, offsets=options.exposure, prob=0.8))
    if options.background > 0:
        parts.append(RandBiasFieldd(x, degree=3, coeff_range=(-options.background, options.background), prob=0.8))
    if options.blur_px > 0:
        sigma = (0.1, max(options.blur_px, 0.1))
        parts.append(RandGaussianSmoothd(x, sigma_x=sigma, sigma_y=sigma, prob=0.3))
    if options.noise > 0:
        parts.append(RandGaussianNoised(x, prob=0.8, std=options.noise))
    return parts


@contextmanager
def _without_meta() -> Iterator[None]:
    """MONAI's bookkeeping of affines switched off: nothing here reads it, and it costs a third of the time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class _MoveTogether(RandomizableTransform):
    """One motion for all images of a sample, stacked: four times as fast as one image after the other.

    A bone that the border cuts goes on beyond it, in the radiograph and in its density alike.
    """

    def __init__(self, motion: RandAffine) -> None:
        super().__init__(prob=1.0)
        self.motion = motion

    def set_random_state(self, seed: int | None = None, state: Any = None) -> _MoveTogether:
        """Seed the motion."""
        self.motion.set_random_state(seed, state)
        return self

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        names = [name for name in ("radiograph", *TARGETS) if name in data]
        stack = np.concatenate([data[name] for name in names])
        moved = _plain(self.motion(torch.from_numpy(stack)))
        ends = np.cumsum([len(data[name]) for name in names])[:-1]
        return {**data, **dict(zip(names, np.split(moved, ends), strict=True))}


def _plain(value: Any) -> Any:
    array = value.numpy() if isinstance(value, torch.Tensor) else value
    return np.ascontiguousarray(array, dtype=np.float32) if hasattr(array, "ndim") and array.ndim else array
