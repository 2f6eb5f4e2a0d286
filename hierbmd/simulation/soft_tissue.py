"""The soft tissue of a virtual patient: skin, subcutaneous fat, muscle, pelvic organs and gas.

The outline is a superellipse trunk that parts into two thighs. Hip breadth and depth follow the body-mass index; fat
over the trochanters about 15 mm at an index of 20 and 50 mm at 35 (read off NHANES-type skinfold and CT data;
unverified).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.geometry import Grid
from hierbmd.simulation.morphometry import Anatomy

Floats = NDArray[np.float32]

FAT_HU, MUSCLE_HU, SKIN_HU, ORGAN_HU, GAS_HU = -98.0, 56.0, 30.0, 32.0, -950.0
"""Hounsfield values of soft tissue at 120 kVp (Bushberg et al., The Essential Physics of Medical Imaging)."""

THIGH_WIDTH = 1.08
"""Width over depth of a thigh's section."""

_COARSE = 2


@dataclass(frozen=True)
class Outline:
    """The body's sizes in mm: trunk half-width and half-depth at the hips, fat thickness, thigh radius."""

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    thigh_mm: float
    thigh_x_mm: float
    centre_y_mm: float


def body_outline(anatomy: Anatomy) -> Outline:
    """The outline that holds this patient's bones and fat."""
    bmi = anatomy.body.bmi_kg_m2
    bony = anatomy.pelvis.half_hip_distance_mm + max(f.offset_mm for f in anatomy.femora) + 24.0
    fat = 6.0 + 1.9 * (bmi - 17.0) + (5.0 if anatomy.body.sex == "F" else 0.0)
    depth = 84.0 + 2.3 * (bmi - 17.0)
    half_width, thigh = bony + 9.0 + 0.62 * fat, 68.0 + 1.5 * (bmi - 17.0)
    return Outline(
        half_width_mm=half_width,
        half_depth_mm=depth,
        fat_mm=fat,
        thigh_mm=thigh,
        thigh_x_mm=max(half_width - THIGH_WIDTH * thigh - 2.0, THIGH_WIDTH * thigh + 1.0),
        centre_y_mm=16.0,
    )


def soft_tissue_hu(grid: Grid, outline: Outline, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Soft tissue in HU, (ni, nj, nk), air outside, and the signed distance to the skin in mm.

    The distance is computed on a grid twice as coarse and interpolated; textures are smooth random fields.
    """
    skin = _on_fine(_skin_distance(_coarse_axes(grid), outline), grid.shape)
    texture = _texture(rng, grid, 9.0)
    planes = _texture(rng, grid, 16.0)
    depth = -skin
    fat_edge = outline.fat_mm * (0.75 + 0.12 * _texture(rng, grid, 30.0))
    muscle = MUSCLE_HU + 4.0 * texture
    # Thin wavy sheets of fat between the muscles, where a smooth field crosses zero; more of them in heavy patients.
    sheet = np.clip(1.25 - np.abs(planes) / (0.045 + 0.004 * anatomy.body.bmi_kg_m2), 0.0, 1.0)
    hu = muscle + np.float32(0.8) * sheet * (FAT_HU - muscle)
    hu = _with_pelvic_cavity(hu, grid, anatomy, texture, planes)
    in_fat = np.clip((fat_edge - depth) / 2.5 + 0.5, 0.0, 1.0)
    hu += in_fat * (FAT_HU + 5.0 * texture - hu)
    hu += np.clip((2.2 - depth) / grid.spacing_mm[0], 0.0, 1.0) * (SKIN_HU - hu)
    inside = np.clip(0.5 + depth / grid.spacing_mm[0], 0.0, 1.0)
    return np.asarray(GAS_HU - 50.0 + inside * (hu - GAS_HU + 50.0), dtype=np.float32), skin


def gas_share(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> Floats:
    """Bowel gas as a share of each voxel: a few soft-edged pockets in the rectum and the lower abdomen."""
    share = np.zeros(grid.shape, dtype=np.float32)
    half = anatomy.pelvis.half_hip_distance_mm
    for _ in range(rng.integers(2, 7)):
        centre = np.array([rng.normal(0, 0.45 * half), rng.normal(-8, 16), rng.uniform(25, 135)])
        radii = rng.uniform(5, 15, 3)
        x, y, z = _fine_axes(grid)
        q = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
        edge = np.float32(grid.spacing_mm[0] / radii.mean())
        share = np.maximum(share, np.clip(0.5 + (1.0 - np.sqrt(q)) / edge, 0.0, 1.0))
    return share


def _with_pelvic_cavity(hu: Floats, grid: Grid, anatomy: Anatomy, texture: Floats, planes: Floats) -> Floats:
    """Organs in fat inside the pelvic ring and above it, and a bladder of water."""
    half = anatomy.pelvis.half_hip_distance_mm
    x, y, z = _fine_axes(grid)
    width = 0.62 * half + 0.35 * np.clip(z - 20.0, 0.0, 60.0)
    cavity = (x / width) ** 2 + ((y - 2.0) / 52.0) ** 2 + (np.minimum(z - 40.0, 0.0) / 75.0) ** 2
    inside = np.clip(4.0 * (1.0 - np.sqrt(cavity)), 0.0, 1.0)
    organs = FAT_HU + np.clip(0.55 + 1.3 * planes + 0.3 * texture, 0.0, 1.0) * (ORGAN_HU - FAT_HU)
    hu = hu + inside * (organs - hu)
    bladder = (x / 38.0) ** 2 + ((y + 18.0) / 26.0) ** 2 + ((z - 14.0) / 26.0) ** 2
    return np.asarray(hu + np.clip(8.0 * (1.0 - np.sqrt(bladder)), 0.0, 1.0) * (6.0 - hu), dtype=np.float32)


def _skin_distance(axes: tuple[Floats, Floats, Floats], o: Outline) -> Floats:
    """About the distance to the skin, negative inside: a trunk that thins towards the perineum, and two thighs."""
    x, y, z = axes
    waist = np.clip((z - 40.0) / 130.0, 0.0, 1.0)
    low = np.clip((-z - 5.0) / 65.0, 0.0, 1.0)
    half_width = o.half_width_mm * (1.0 - 0.10 * waist**2 - 0.05 * low)
    half_depth = o.half_depth_mm * (1.0 - 0.30 * low**2) + 0.0 * x
    trunk = _ellipse_distance(x, y - o.centre_y_mm, half_width, half_depth)
    trunk = np.maximum(trunk, -(z + 70.0 + 0.0012 * x**2))
    down = np.clip(-z - 60.0, 0.0, 160.0)
    across = np.abs(x) - (o.thigh_x_mm - 0.10 * down)
    wide = o.thigh_mm * (1.0 - 0.0006 * down)
    # Above the groin the thighs fade into the trunk instead of ending.
    thighs = _ellipse_distance(across, y - o.centre_y_mm, THIGH_WIDTH * wide, wide) + 0.35 * np.clip(
        z + 30.0, 0.0, 300.0
    )
    blend = 40.0
    share = np.clip(0.5 + 0.5 * (thighs - trunk) / blend, 0.0, 1.0)
    return np.asarray(thighs + (trunk - thighs) * share - 0.5 * blend * share * (1 - share), dtype=np.float32)


def _ellipse_distance(x: Floats, y: Floats, a: Floats, b: Floats) -> Floats:
    """About the distance to a superellipse of order 2.4, by its value over its gradient."""
    u, v = np.abs(x) / a + 1e-6, np.abs(y) / b + 1e-6
    order = np.float32(2.4)
    f = (u**order + v**order) ** (1 / order)
    slope = np.sqrt((u ** (order - 1) / a) ** 2 + (v ** (order - 1) / b) ** 2) * f ** (1 - order)
    return np.asarray((f - 1.0) / slope, dtype=np.float32)


def _fine_axes(grid: Grid) -> tuple[Floats, Floats, Floats]:
    """World coordinates along each axis of an axis-aligned grid, shaped to broadcast."""
    o, s = grid.world_from_index[:3, 3], np.diag(grid.world_from_index)[:3]
    axes = [(o[n] + s[n] * np.arange(grid.shape[n])).astype(np.float32) for n in range(3)]
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def _coarse_axes(grid: Grid) -> tuple[Floats, Floats, Floats]:
    x, y, z = (axis.ravel() for axis in _fine_axes(grid))
    coarse = [np.linspace(axis[0], axis[-1], (len(axis) + 1) // _COARSE, dtype=np.float32) for axis in (x, y, z)]
    return coarse[0][:, None, None], coarse[1][None, :, None], coarse[2][None, None, :]


def _on_fine(coarse: Floats, shape: tuple[int, ...]) -> Floats:
    """Linear interpolation onto the fine grid, axis by axis; the ends of the two grids coincide."""
    for axis, n in enumerate(shape):
        at = np.linspace(0, coarse.shape[axis] - 1, n)
        low = np.minimum(at.astype(int), max(coarse.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        coarse = np.take(coarse, low, axis=axis) * (1 - share) + np.take(coarse, high, axis=axis) * share
    return coarse


def _texture(rng: np.random.Generator, grid: Grid, length_mm: float) -> Floats:
    """A smooth random field of about unit variance with the given correlation length, (ni, nj, nk)."""
    return smooth_noise(rng, grid.shape, length_mm / grid.spacing_mm[0])


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], length_voxels: float) -> Floats:
    """A smooth random field of about unit variance: noise on a lattice of `length_voxels`, interpolated linearly."""
    coarse = tuple(max(int(np.ceil(n / length_voxels)) + 1, 2) for n in shape)
    white = ndimage.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), 0.6, mode="reflect")
    field = _on_fine(white, shape)
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)
