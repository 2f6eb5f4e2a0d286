"""A reconstruction kernel: how sharp the image is, and the noise that comes with it.

The kernel is its modulation transfer function (MTF), the same in all directions of the plane. Filtered back-projection
gives noise with a power spectrum proportional to f * MTF(f)^2 (Riederer, Pelc & Chesler, Phys Med Biol 1978): no noise
of long waves, and more of it the sharper the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import brentq

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

_PAD_PX = 16


@dataclass(frozen=True)
class Kernel:
    """MTF(f) = (1 + edge x) exp(-x) with x = (f / scale)^2, and `tenth_per_mm` the frequency where it is 0.1.

    Above 1, `edge` lifts middle frequencies over the lowest, as a bone kernel does.
    """

    tenth_per_mm: float
    edge: float = 0.0

    @property
    def scale_per_mm(self) -> float:
        """The frequency where x is 1."""
        x = brentq(lambda x: (1.0 + self.edge * x) * np.exp(-x) - 0.1, max(1.0, self.edge), 50.0)
        return float(self.tenth_per_mm / np.sqrt(x))

    def mtf(self, per_mm: Floats) -> Floats:
        """The modulation transfer at spatial frequencies in line pairs per mm."""
        x = (np.asarray(per_mm) / self.scale_per_mm) ** 2
        return np.asarray((1.0 + self.edge * x) * np.exp(-x))

    @property
    def noise_power(self) -> float:
        """The integral of f MTF(f)^2 over the plane of frequencies: noise variance up to the dose."""
        f = np.linspace(0.0, 4.0 * self.tenth_per_mm, 4001)
        return float(np.trapezoid(2.0 * np.pi * f**2 * self.mtf(f) ** 2, f))


KERNELS = {"soft": Kernel(0.60), "standard": Kernel(0.70), "sharp": Kernel(1.10, edge=1.6)}
"""10 % points in line pairs per mm, of the order of body kernels for soft tissue, of routine ones, and of bone kernels
with their edge enhancement of about 10 % (rounded; vendors differ and publish few: unverified)."""


def noise_gain(kernel: Kernel) -> float:
    """The noise of a kernel over that of the standard one."""
    return float(np.sqrt(kernel.noise_power / KERNELS["standard"].noise_power))


def reconstructed(image: Image, pixel_mm: float, kernel: Kernel) -> Image:
    """An image of pixel means, (nx, ny), as the kernel shows it at the pixels' centres.

    The pixel's own box is undone, so that what is left is the kernel's MTF up to the Nyquist frequency; but where the
    pixels are coarser than the kernel, nothing is lifted above the MTF's peak. The mean stays.
    """
    shape = _padded_shape(image.shape)
    padded = np.pad(image, [(_PAD_PX, n - m - _PAD_PX) for n, m in zip(shape, image.shape, strict=True)], mode="edge")
    spectrum = fft.rfft2(padded) * _transfer(shape, pixel_mm, kernel)
    out = fft.irfft2(spectrum, shape)
    return np.asarray(out[_PAD_PX : _PAD_PX + image.shape[0], _PAD_PX : _PAD_PX + image.shape[1]], dtype=np.float32)


def correlated_noise(shape: tuple[int, int], pixel_mm: float, kernel: Kernel, rng: np.random.Generator) -> Image:
    """Noise of unit variance, (nx, ny), whose power spectrum is the kernel's."""
    padded = _padded_shape(shape)
    white = fft.rfft2(rng.standard_normal(padded, dtype=np.float32))
    return np.asarray(fft.irfft2(white * _noise_amplitude(padded, pixel_mm, kernel), padded)[: shape[0], : shape[1]])


def noise_covariance(pixel_mm: float, kernel: Kernel, *, size_px: int = 128) -> Floats:
    """The covariance of the noise of unit variance by the distance in pixels along x and y, (size, size)."""
    power = _noise_amplitude((size_px, size_px), pixel_mm, kernel).astype(np.float64) ** 2
    return np.asarray(fft.irfft2(power, (size_px, size_px)))


def _padded_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return fft.next_fast_len(shape[0] + 2 * _PAD_PX, True), fft.next_fast_len(shape[1] + 2 * _PAD_PX, True)


def _frequencies(shape: tuple[int, int], pixel_mm: float) -> tuple[Floats, Floats]:
    return fft.fftfreq(shape[0], pixel_mm)[:, None], fft.rfftfreq(shape[1], pixel_mm)[None, :]


@cache
def _transfer(shape: tuple[int, int], pixel_mm: float, kernel: Kernel) -> Image:
    fx, fy = _frequencies(shape, pixel_mm)
    box = np.sinc(fx * pixel_mm) * np.sinc(fy * pixel_mm)
    peak = float(np.max(kernel.mtf(np.linspace(0.0, kernel.tenth_per_mm, 1001))))
    return np.asarray(np.minimum(kernel.mtf(np.hypot(fx, fy)) / box, peak), dtype=np.float32)


@cache
def _noise_amplitude(shape: tuple[int, int], pixel_mm: float, kernel: Kernel) -> Image:
    fx, fy = _frequencies(shape, pixel_mm)
    f = np.hypot(fx, fy)
    power = f * kernel.mtf(f) ** 2
    # The half spectrum holds each frequency of its inner columns for two.
    inner = np.full(power.shape[1], 2.0)
    inner[0] = 1.0
    if shape[1] % 2 == 0:
        inner[-1] = 1.0
    mean = float(np.sum(power * inner) / (shape[0] * shape[1]))
    return np.asarray(np.sqrt(power / mean), dtype=np.float32)
