"""Rods on one image: circles of a known diameter, whatever they hold and whatever lies around them.

Each pixel votes with the direction of its gradient: the response at a point is the mean, over the ring of the wanted
radius about it, of the gradient's radial part over its length (fast radial symmetry, Loy & Zelinsky, IEEE PAMI 2003).
A full circle answers 1 or -1, of any contrast well above the noise; a corner or a straight edge far less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

_BLUR_MM, _RING_MM = 1.2, 1.2
_WEAK_HU_PER_MM = 4.0
_LOWEST_HU, _HIGHEST_HU = -1100.0, 2500.0
_LEAST_RESPONSE, _MOST_CIRCLES = 0.3, 60


@dataclass(frozen=True)
class Circles:
    """The circles found: `centres_mm` (n, 2) as (u, v), `responses` (n,) in 0..1 without their sign."""

    centres_mm: Floats
    responses: Floats


def find_circles(image: Image, pixel_mm: Floats, diameter_mm: float, seen: NDArray[np.bool_]) -> Circles:
    """The circles of a diameter on an image (nx, ny) in HU with pixels of (2,) mm; none centred where not `seen`."""
    response = radial_response(image, pixel_mm, diameter_mm)
    strength = np.where(seen, np.abs(response), 0.0)
    width = tuple(int(2 * np.ceil(0.35 * diameter_mm / p) + 1) for p in pixel_mm)
    peaks = (strength == ndimage.maximum_filter(strength, size=width)) & (strength > _LEAST_RESPONSE)
    index = np.argwhere(peaks)
    order = np.argsort(-strength[peaks], kind="stable")[:_MOST_CIRCLES]
    index, found = index[order], strength[peaks][order]
    centres = np.array([_refined(strength, tuple(at)) for at in index]).reshape(-1, 2)
    return Circles(centres * pixel_mm, found.astype(np.float64))


def radial_response(image: Image, pixel_mm: Floats, diameter_mm: float) -> Floats:
    """How much of a circle lies about each pixel, (nx, ny), -1 (dark) to 1 (bright)."""
    blur = [_BLUR_MM / p for p in pixel_mm]
    clipped = np.clip(image, _LOWEST_HU, _HIGHEST_HU)
    gradient = [
        ndimage.gaussian_filter(clipped, blur, order=order) / np.float32(p)
        for order, p in zip(((1, 0), (0, 1)), pixel_mm, strict=True)
    ]
    length = np.hypot(*gradient) + np.float32(_WEAK_HU_PER_MM)
    reach = [int(np.ceil((0.5 * diameter_mm + 3.0 * _RING_MM) / p)) for p in pixel_mm]
    u = pixel_mm[0] * np.arange(-reach[0], reach[0] + 1)[:, None]
    v = pixel_mm[1] * np.arange(-reach[1], reach[1] + 1)[None, :]
    radius = np.hypot(u, v)
    ring = np.exp(-0.5 * ((radius - 0.5 * diameter_mm) / _RING_MM) ** 2)
    ring /= ring.sum()
    kernels = [ring * part / np.maximum(radius, 1e-9) for part in (u, v)]
    shape = [fft.next_fast_len(n + 2 * r, True) for n, r in zip(image.shape, reach, strict=True)]
    spectrum = sum(
        fft.rfft2(g / length, shape) * fft.rfft2(k.astype(np.float32), shape)
        for g, k in zip(gradient, kernels, strict=True)
    )
    # The kernel is odd: correlation is convolution with its sign turned, and a bright disc falls outward.
    full = fft.irfft2(spectrum, shape)
    return np.asarray(full[reach[0] : reach[0] + image.shape[0], reach[1] : reach[1] + image.shape[1]])


def _refined(strength: Floats, at: tuple[int, ...]) -> tuple[float, float]:
    """The peak between pixels, by a parabola along each axis."""
    place = []
    for axis in range(2):
        n = at[axis]
        if not 0 < n < strength.shape[axis] - 1:
            place.append(float(n))
            continue
        low, middle, high = (strength[(n + d, at[1]) if axis == 0 else (at[0], n + d)] for d in (-1, 0, 1))
        bend = low - 2.0 * middle + high
        place.append(n + (0.5 * (low - high) / bend if bend < 0 else 0.0))
    return place[0], place[1]
