"""Multi-scale contrast amplification: what makes a vendor's radiograph show faint and strong structures alike.

A Laplacian pyramid (Burt & Adelson, IEEE Trans Commun 1983) of the log image; in each band small contrasts are raised
over large ones by a power below 1 (Vuylsteke & Schoeters, SPIE 2167, 1994), and the widest bands are damped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

STRONGEST = 1.0
"""The band contrast, in natural log of exposure, that keeps its strength: a step by a factor of e."""

_BINOMIAL = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
_LEAST_PX = 8


@dataclass(frozen=True)
class Multiscale:
    """How a unit amplifies.

    `exponent` of the power (1 leaves contrast as it is), `faintest` the contrast below which the gain stays as it is
    there, so that noise does not grow without end, `latitude` the factor on structures wider than `wide_mm`.
    """

    exponent: float = 0.75
    faintest: float = 0.02
    latitude: float = 0.7
    wide_mm: float = 60.0


def amplified(image: Image, pixel_mm: tuple[float, float], how: Multiscale) -> Image:
    """The log image (H, W) with its bands amplified; exponent 1 and latitude 1 give it back to rounding."""
    bands, rest = laplacian_pyramid(image)
    pixel = float(np.mean(pixel_mm))
    bands = [
        amplified_band(band, how) * np.float32(how.latitude if pixel * 2.0**level > how.wide_mm / 4.0 else 1.0)
        for level, band in enumerate(bands)
    ]
    mean = rest.mean()
    return collapsed(bands, np.asarray(mean + how.latitude * (rest - mean), dtype=np.float32))


def amplified_band(band: Image, how: Multiscale) -> Image:
    """The contrasts of one band: M sign(x) (|x| / M)^p above `faintest`, in proportion below it."""
    size = np.maximum(np.abs(band), np.float32(how.faintest))
    return np.asarray(band * (size / np.float32(STRONGEST)) ** np.float32(how.exponent - 1.0), dtype=np.float32)


def laplacian_pyramid(image: Image) -> tuple[list[Image], Image]:
    """The bands from fine to coarse, each half as large as the one before, and the low-pass rest."""
    bands = []
    while min(image.shape) >= 2 * _LEAST_PX:
        smaller = _reduced(image)
        bands.append(image - _expanded(smaller, image.shape))
        image = smaller
    return bands, image


def collapsed(bands: list[Image], rest: Image) -> Image:
    """The image of a pyramid."""
    for band in reversed(bands):
        rest = band + _expanded(rest, band.shape)
    return rest


def _reduced(image: Image) -> Image:
    """Blurred by the binomial and every second row and column of it."""
    return np.asarray(_blurred(image)[::2, ::2])


def _expanded(image: Image, shape: tuple[int, ...]) -> Image:
    """Interpolated back to `shape`: zeros between, then the binomial with twice its weight along each axis."""
    wide = np.zeros((2 * image.shape[0], 2 * image.shape[1]), dtype=np.float32)
    wide[::2, ::2] = image
    return np.asarray(4.0 * _blurred(wide)[: shape[0], : shape[1]], dtype=np.float32)


def _blurred(image: Image) -> Image:
    return np.asarray(
        ndimage.convolve1d(
            ndimage.convolve1d(image, _BINOMIAL, axis=0, mode="mirror"), _BINOMIAL, axis=1, mode="mirror"
        ),
        dtype=np.float32,
    )
