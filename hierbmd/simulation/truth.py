"""The true areal density of a simulated radiograph, from the voxel truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.blocks import block_mean
from hierbmd.data.density import DensityMap
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix
from hierbmd.simulation.bone_motion import bone_piece
from hierbmd.simulation.raymarch import line_integrals, supersampled
from hierbmd.units import G_CM2_PER_MG_CM3_MM


def true_areal_density(
    density: Volume,
    region: NDArray[np.bool_],
    camera: Camera,
    camera_from_bone_world: Matrix,
    *,
    rays: int = 2,
    step_mm: float = 0.5,
) -> DensityMap:
    """The true areal density in g/cm2, (H, W), of the voxels in `region` ((ni, nj, nk) bool) of a density volume in
    mg/cm3.

    `camera_from_bone_world` is the bone's own pose on the radiograph: geometry.camera_from_world @ bone motion, which
    truth.json records. Sampled apart from the projector, with rays x rays in each pixel.
    """
    amounts = np.where(region, density.values, np.float32(0.0))[..., None]
    integrals = line_integrals(
        amounts, density.grid, supersampled(camera, rays), camera_from_bone_world, step_mm=step_mm
    )
    areal = block_mean(integrals, rays)[..., 0] * np.float32(G_CM2_PER_MG_CM3_MM)
    return DensityMap(areal, camera.pixel_mm, "bone")


def bone_region(labels: LabelMap, name: str) -> NDArray[np.bool_]:
    """The voxels of a bone with the rim that holds its partial volume: all of its true mineral."""
    return bone_piece(labels, name)
