"""Gaussian-derivative images: the linear features that a radiograph and a bone's projection are compared in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WIDE = 3.0
"""The wide Gaussian over the narrow one: two octaves of detail, about the width of a cortex to that of a shaft."""

REACH_SIGMAS = 4.0
"""The kernels end here; beyond it a Gaussian has less than 1e-4 of its weight."""


@dataclass(frozen=True)
class GradientFilter:
    """Horizontal and vertical band-pass derivatives of images of one size (H, W), as dense matrices.

    The derivative of a narrow Gaussian's image less that of a wide one's: bone edges pass, the slow shading of soft
    tissue and scatter does not. Each Gaussian is (rows smooth, rows slope, columns smooth, columns slope). On the
    small windows of a registration matrix products outrun a sliding kernel, and they take the six images of a pose
    Jacobian in one go. Past its edges the image goes on with its last value.
    """

    narrow: tuple[NDArray[np.float32], ...]
    wide: tuple[NDArray[np.float32], ...]
    reach_px: int

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., H, W) to (..., 2, H, W): the derivative along columns (u), then along rows (v), per pixel."""
        return _gradient(images, self.narrow) - _gradient(images, self.wide)


@lru_cache(maxsize=256)
def gradient_filter(size_px: tuple[int, int], sigma_px: float) -> GradientFilter:
    """The filter for images of `size_px` (W, H) with a narrow Gaussian of `sigma_px` and a wide one of 3 times that."""
    return GradientFilter(
        _matrices(size_px, sigma_px),
        _matrices(size_px, WIDE * sigma_px),
        int(np.ceil(2 * WIDE * sigma_px)),
    )


def _gradient(images: NDArray[np.float32], matrices: tuple[NDArray[np.float32], ...]) -> NDArray[np.float32]:
    rows_smooth, rows_slope, columns_smooth, columns_slope = matrices
    return np.stack([rows_smooth @ images @ columns_slope.T, rows_slope @ images @ columns_smooth.T], axis=-3)


def _matrices(size_px: tuple[int, int], sigma_px: float) -> tuple[NDArray[np.float32], ...]:
    width, height = size_px
    return tuple(_band_matrix(size, sigma_px, order=order) for size in (height, width) for order in (0, 1))


def _band_matrix(size: int, sigma_px: float, *, order: int) -> NDArray[np.float32]:
    """The (size, size) matrix that convolves a signal with a sampled Gaussian (0) or its derivative (1).

    Past the ends the signal goes on with its last value, so that a constant has no gradient anywhere.
    """
    reach = int(np.ceil(REACH_SIGMAS * sigma_px))
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (x / sigma_px) ** 2)
    kernel /= kernel.sum()
    if order == 1:
        kernel *= x
        kernel /= np.sum(kernel * x)  # a ramp of slope one has derivative one
    matrix = np.zeros((size, size))
    rows = np.arange(size)
    for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
        np.add.at(matrix, (rows, np.clip(rows + offset, 0, size - 1)), weight)
    return matrix.astype(np.float32)
