"""Changes of a radiograph that a model should stand: compression, noise, resolution and exposure, by named levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hierbmd.io.codecs import through_jpeg, through_jpeg2000

Image = NDArray[np.float32]

JPEG_QUALITIES = (90, 75, 60, 50, 40, 30)
JPEG2000_RATIOS = (10, 20, 40)
NOISE_PERCENT = (0.5, 1.0, 2.0, 4.0)
COARSER = (1.5, 2.0, 3.0, 4.0)
SHIFT_PERCENT = (-20, -10, 10, 20)
GAMMAS = (0.7, 0.85, 1.2, 1.4)

_WINDOW_PERCENTILES = (2.0, 99.5)
"""The part of the grey scale that noise is measured against."""


@dataclass(frozen=True)
class Stored:
    """A radiograph's stored pixels (H, W) float32, and the grey scale that they lie on: its ends and its bits."""

    pixels: Image
    ends: tuple[float, float]
    bits: int

    @property
    def level(self) -> NDArray[np.float64]:
        """The pixels from 0 to 1 of the scale."""
        low, high = self.ends
        return np.clip((self.pixels.astype(np.float64) - low) / max(high - low, 1e-12), 0.0, 1.0)

    def at(self, level: NDArray[np.float64]) -> Image:
        """Pixels of levels 0 to 1; what is beyond the scale saturates."""
        low, high = self.ends
        return (low + np.clip(level, 0.0, 1.0) * (high - low)).astype(np.float32)


@dataclass(frozen=True)
class Perturbation:
    """One change: its sweep, its name in tables, a number to plot it at, and what it does to stored pixels.

    `apply` takes the stored radiograph and a seed, and gives pixels of the same size; only noise looks at the seed.
    """

    sweep: str
    name: str
    level: float
    apply: Callable[[Stored, int], Image]


def perturbations(sweep: str) -> tuple[Perturbation, ...]:
    """The levels of a sweep: "compression", "noise", "resolution" or "exposure", the mildest of a kind first."""
    return _SWEEPS[sweep]()


def jpeg(quality: int) -> Perturbation:
    """Baseline JPEG of a quality from 1 to 100."""
    return Perturbation("compression", f"jpeg {quality}", quality, partial(_jpeg, quality))


def jpeg2000(ratio: float) -> Perturbation:
    """JPEG 2000 of `ratio` to one."""
    return Perturbation("compression", f"jpeg2000 {ratio:g}:1", ratio, partial(_jpeg2000, ratio))


def _compression() -> tuple[Perturbation, ...]:
    return (*map(jpeg, JPEG_QUALITIES), *map(jpeg2000, JPEG2000_RATIOS))


def _noise() -> tuple[Perturbation, ...]:
    return tuple(Perturbation("noise", f"noise {p:g} %", p, partial(_noisy, p)) for p in NOISE_PERCENT)


def _resolution() -> tuple[Perturbation, ...]:
    return tuple(Perturbation("resolution", f"{f:g} x coarser", f, partial(_coarser, f)) for f in COARSER)


def _exposure() -> tuple[Perturbation, ...]:
    shifts = [Perturbation("exposure", f"shift {p:+d} %", p, partial(_shifted, p)) for p in SHIFT_PERCENT]
    gammas = [Perturbation("exposure", f"gamma {g:g}", g, partial(_bent, g)) for g in GAMMAS]
    return (*shifts, *gammas)


_SWEEPS: dict[str, Callable[[], tuple[Perturbation, ...]]] = {
    "compression": _compression,
    "noise": _noise,
    "resolution": _resolution,
    "exposure": _exposure,
}


def _jpeg(quality: int, stored: Stored, seed: int) -> Image:
    """Baseline JPEG: the image goes to 8 bits first, as it does when a picture is exported."""
    grey = np.rint(stored.level * 255.0).astype(np.uint8)
    return stored.at(through_jpeg(grey, quality) / 255.0)


def _jpeg2000(ratio: float, stored: Stored, seed: int) -> Image:
    """JPEG 2000 at the image's own bits, at most 16."""
    bits = min(max(stored.bits, 8), 16)
    top = 2.0**bits - 1.0
    grey = np.rint(stored.level * top).astype(np.uint16)
    return stored.at(through_jpeg2000(grey, ratio, bits=bits) / top)


def _noisy(percent: float, stored: Stored, seed: int) -> Image:
    """White Gaussian noise, its SD in percent of the span between the 2nd and the 99.5th percentile."""
    low, high = np.percentile(stored.level, _WINDOW_PERCENTILES)
    noise = np.random.default_rng(seed).normal(0.0, percent / 100.0 * (high - low), stored.pixels.shape)
    return stored.at(stored.level + noise)


def _coarser(factor: float, stored: Stored, seed: int) -> Image:
    """Averaged to pixels `factor` times as wide, and linearly back."""
    from PIL import Image as Picture

    height, width = stored.pixels.shape
    picture = Picture.fromarray(stored.pixels)
    small = picture.resize((max(round(width / factor), 1), max(round(height / factor), 1)), Picture.Resampling.BOX)
    return np.asarray(small.resize((width, height), Picture.Resampling.BILINEAR), dtype=np.float32)


def _shifted(percent: float, stored: Stored, seed: int) -> Image:
    """Brighter or darker by a share of the scale, saturating at its ends: exposure missed, on a logarithmic image."""
    return stored.at(stored.level + percent / 100.0)


def _bent(gamma: float, stored: Stored, seed: int) -> Image:
    """Another contrast curve."""
    return stored.at(stored.level**gamma)
