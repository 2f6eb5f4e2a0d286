"""The true areal density of a simulated radiograph, from the voxel truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.areal import ArealBmd
from hierbmd.data.blocks import block_mean
from hierbmd.data.density import DensityMap
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadRegion
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


LUMBAR = tuple(f"vertebrae_L{n}" for n in range(1, 5))
"""What a DXA of the spine sums up."""


def lumbar_bmd(density: Volume, labels: LabelMap) -> ArealBmd:
    """The true areal BMD of L1-L4, g/cm2: their mineral over what their labels cover seen from the front, as DXA does.

    Rays are parallel along the patient's front-to-back axis, by the sum over voxel columns: axis-aligned grids only.
    The whole vertebra counts, so transverse processes widen the area, which a DXA's edges leave out in part.
    BadRegion where one of the four is not whole in the labels.
    """
    if not set(LUMBAR) <= set(labels.names_present):
        raise BadRegion("L1 to L4 are not all in the labels", where=", ".join(labels.names_present))
    masks = [labels.mask(name) for name in LUMBAR]
    if any(mask[:, :, edge].any() for mask in masks for edge in (0, -1)):
        raise BadRegion("L1 or L4 is cut by the end of the CT", mend="give a longer one")
    region = np.logical_or.reduce([bone_piece(labels, name) for name in LUMBAR])
    width, _, height = (float(s) for s in density.grid.spacing_mm)
    area_cm2 = float(np.count_nonzero(np.logical_or.reduce(masks).any(axis=1))) * width * height / 100.0
    bmc_g = float(density.values[region].sum(dtype=np.float64)) * float(np.prod(density.grid.spacing_mm)) * 1e-6
    return ArealBmd(bmc_g / area_cm2, bmc_g, area_cm2)


def bone_region(labels: LabelMap, name: str) -> NDArray[np.bool_]:
    """The voxels of a bone with the rim that holds its partial volume: all of its true mineral."""
    return bone_piece(labels, name)
