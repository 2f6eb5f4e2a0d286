"""Metal in and around bone on a CT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import Mask
from hierbmd.units import METAL_HU


def metal_near(hu: NDArray[np.float32], bone: Mask, metal_hu: float = METAL_HU) -> Mask:
    """Voxels above `metal_hu` in or touching a bone, and those around them, which share the metal by partial volume."""
    seeds = hu > metal_hu
    # On a whole CT the dilation costs more than all the rest: most hips have no metal.
    if seeds.any():
        seeds &= ndimage.binary_dilation(bone)
    return np.asarray(ndimage.binary_dilation(seeds)) if seeds.any() else seeds
