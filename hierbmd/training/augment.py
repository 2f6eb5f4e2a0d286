"""Augmentation of a pair: one small motion of all its images, then exposure, noise, compression on the radiograph."""

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

from hierbmd.errors import BadConfig
from hierbmd.evaluation.perturb import Perturbation, Stored, jpeg, jpeg2000
from hierbmd.options import option

TARGETS = ("bones", "region", "mask", "further")

COMPRESSED_BITS = 12
"""The grey levels that a half image has before a JPEG 2000 of it; a baseline JPEG has 8."""


@dataclass(frozen=True)
class Compression:
    """Lossy compression of training radiographs, by the codecs themselves; each image by one of the two, drawn.

    The half image is compressed, of pixels several times as wide as a film's: at one quality it loses more of the bone.
    """

    probability: float = option("share of the training images that are compressed, 0 to 1", 0.5)
    jpeg_quality: tuple[int, int] = option("lowest and highest quality of a baseline JPEG", (30, 95))
    jpeg2000_ratio: tuple[float, float] = option("smallest and largest ratio to one of a JPEG 2000", (5.0, 40.0))

    def __post_init__(self) -> None:
        (worst, best), (least, most) = self.jpeg_quality, self.jpeg2000_ratio
        if not (0.0 <= self.probability <= 1.0 and 1 <= worst <= best <= 100 and 1.0 <= least <= most):
            raise BadConfig(
                "compression out of range",
                where=f"probability {self.probability:g}, qualities {worst} to {best}, ratios {least:g} to {most:g}",
                mend="0 to 1, qualities 1 to 100 and ratios from 1, the smaller first",
            )

    def drawn(self, random: np.random.RandomState) -> Perturbation | None:
        """What is done to one image: nothing, a JPEG, or a JPEG 2000 of a ratio even on a logarithmic scale."""
        applies, wavelet, place = random.uniform(size=3)
        if applies >= self.probability:
            return None
        if wavelet < 0.5:
            return jpeg2000(float(np.exp(np.interp(place, (0.0, 1.0), np.log(self.jpeg2000_ratio)))))
        worst, best = self.jpeg_quality
        return jpeg(worst + int(place * (best - worst + 1)))


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
    compression: Compression | None = option("JPEG and JPEG 2000 of the radiograph; null leaves it as it is", None)


def make_augment(options: Augmentation) -> Callable[[dict[str, Any], int], dict[str, Any]]:
    """A function (sample, seed) -> sample; the same seed gives the same sample, whatever ran before.

    A sample holds float32 arrays (C, H, W): "radiograph" and the TARGETS that there are.
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
    if options.compression is not None:
        parts.append(_Compressed(options.compression))
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


class _Compressed(RandomizableTransform):
    """The radiograph through a lossy codec, over the grey levels that it has; the targets stay."""

    def __init__(self, options: Compression) -> None:
        super().__init__(prob=1.0)
        self.options = options

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        one, pixels = self.options.drawn(self.R), _plain(data["radiograph"])
        if one is None:
            return data
        stored = Stored(pixels[0], (float(pixels.min()), float(pixels.max())), COMPRESSED_BITS)
        return {**data, "radiograph": one.apply(stored, 0)[None]}


def _plain(value: Any) -> Any:
    array = value.numpy() if isinstance(value, torch.Tensor) else value
    return np.ascontiguousarray(array, dtype=np.float32) if hasattr(array, "ndim") and array.ndim else array
