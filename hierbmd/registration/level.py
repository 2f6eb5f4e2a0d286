"""The radiograph at one scale: its camera, its gradients, and how much each pixel's gradient is trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.data.blocks import block_mean
from hierbmd.geometry import Camera
from hierbmd.registration.features import gradient_filter

_ENERGY_WINDOW_SIGMAS = 4.0
_ENERGY_FLOOR = 0.1
_STRONG_PERCENT = 90.0
"""Gradients above the strongest tenth count less the stronger they are: collimator, skin, implants, table edges."""


@dataclass(frozen=True)
class Level:
    """A radiograph on pixels of about one size: `pixels` (H, W), `features` (2, H, W), `trust` (H, W).

    `trust` is the inverse of the local root-mean-square gradient: it evens out the contrast that display processing,
    scatter and the skin line give different parts of the image.
    `energy` is the mean squared gradient over the image: zero for a blank one.
    """

    camera: Camera
    pixels: NDArray[np.float32]
    features: NDArray[np.float32]
    trust: NDArray[np.float32]
    sigma_px: float

    @property
    def energy(self) -> float:
        """The mean squared gradient over the image."""
        return float(np.mean(np.square(self.features, dtype=np.float64)))


def make_levels(
    pixels: NDArray[np.float32], camera: Camera, *, pixel_mm: tuple[float, ...], smoothing_px: float
) -> tuple[Level, ...]:
    """The radiograph at each pixel size asked for, coarse to fine, in whole multiples of its own; no size twice.

    `pixels` is (H, W), bone bright, any monotone scale. An image too small for a size is taken at a finer one.
    """
    own_mm = float(np.sqrt(camera.pixel_mm[0] * camera.pixel_mm[1]))
    largest = max(1, min(camera.size_px) // 16)
    factors = {min(largest, max(1, round(size / own_mm))) for size in pixel_mm}
    clipped = _clipped(pixels)
    return tuple(_make_level(clipped, camera, factor, smoothing_px) for factor in sorted(factors, reverse=True))


def _clipped(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """To 0..1 between the tails of one in two thousand: dead pixels lose their leverage."""
    low, high = np.percentile(pixels, [0.05, 99.95])
    if not high > low:
        return np.zeros_like(pixels, dtype=np.float32)
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1), dtype=np.float32)


def _make_level(pixels: NDArray[np.float32], camera: Camera, factor: int, sigma_px: float) -> Level:
    small = camera.resized(factor)
    image = block_mean(pixels, factor, drop_rest=True)
    features = gradient_filter(small.size_px, sigma_px)(image)
    return Level(small, image, features, _trust(features), sigma_px)


def _trust(features: NDArray[np.float32]) -> NDArray[np.float32]:
    squared = np.sum(np.square(features), axis=0)
    if not squared.max() > 0:
        return np.zeros_like(squared)
    local = ndimage.gaussian_filter(squared, _ENERGY_WINDOW_SIGMAS, mode="nearest")
    trust = 1.0 / np.sqrt(local + _ENERGY_FLOOR * np.mean(local))
    evened = trust * np.sqrt(squared)
    trust /= np.sqrt(1.0 + (evened / np.percentile(evened, _STRONG_PERCENT)) ** 2)
    return np.asarray(trust / trust.max(), dtype=np.float32)
