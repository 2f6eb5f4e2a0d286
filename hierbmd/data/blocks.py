"""Images at coarser pixels: means over blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def block_mean(image: NDArray[np.float32], factor: int, *, drop_rest: bool = False) -> NDArray[np.float32]:
    """The float32 mean over each block of factor x factor pixels of (H, W, ...); a factor of 1 copies nothing.

    A rest at the right and lower edge that fills no block is a ValueError, or left out with `drop_rest`, as
    `Camera.resized` leaves it out.
    """
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if not drop_rest and (height * factor, width * factor) != image.shape[:2]:
        raise ValueError(f"an image of {image.shape[:2]} pixels is not of whole blocks of {factor}")
    if factor == 1:
        return np.asarray(image, dtype=np.float32)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, *image.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)
