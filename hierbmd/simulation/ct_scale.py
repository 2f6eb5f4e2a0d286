"""A scanner's Hounsfield scale: the body at a tube voltage, its size in water, cupping, drift, and how noisy it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import Volume
from hierbmd.physics.ct_beam import CtBeam, nominal_beam
from hierbmd.simulation.ct_kernel import KERNELS, noise_gain
from hierbmd.simulation.ct_table import BODY_HU
from hierbmd.simulation.options import ScanOptions
from hierbmd.units import MU_WATER_PER_MM

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

REFERENCE_DIAMETER_MM = 300.0
"""The body that `noise_hu` and `cupping_hu` are stated for: an adult's pelvis is 280-340 mm of water (AAPM 220)."""

_REFERENCE_THICKNESS_MM = 3.0


@dataclass(frozen=True)
class Scale:
    """Each slice of a scan, (nz,): the scale reads (HU + 1000) * gain - 1000 + offset_hu; noise and body size too."""

    z_mm: Floats
    gain: Floats
    offset_hu: float
    noise_sd_hu: Floats
    water_diameters_mm: Floats

    def read(self, hu: Image, k: int) -> Image:
        """What the k-th slice reads where it should read `hu`."""
        return np.asarray((hu + 1000.0) * self.gain[k] - 1000.0 + self.offset_hu, dtype=np.float32)


def body_at(beam: CtBeam, body: Volume, density: Volume) -> Volume:
    """The body as it reads in a beam, from HU at 70 keV and its mineral in mg/cm3 HA, both (ni, nj, nk).

    What is not mineral is air, adipose and soft tissue in the mix that its HU at 70 keV say, and moves as they do.
    """
    nominal = nominal_beam()
    if beam is nominal or np.array_equal(beam.energy_kev, nominal.energy_kev):
        return body
    mineral = density.values
    soft = body.values - np.float32(nominal.hydroxyapatite_hu_per_mg_cm3) * mineral
    places = [-1000.0, nominal.adipose_hu, 0.0, nominal.soft_tissue_hu]
    moves = [0.0, beam.adipose_hu - nominal.adipose_hu, 0.0, beam.soft_tissue_hu - nominal.soft_tissue_hu]
    moved = np.interp(soft, places, moves).astype(np.float32)
    more = np.float32(beam.hydroxyapatite_hu_per_mg_cm3 - nominal.hydroxyapatite_hu_per_mg_cm3)
    return Volume(body.values + moved + more * mineral, body.grid, body.unit)


def water_diameters_mm(body: Volume) -> Floats:
    """The diameter of the disc of water that attenuates as each slice of an upright body does, (nk,), mm: AAPM 220."""
    spacing = body.grid.spacing_mm
    water = np.clip(body.values / 1000.0 + 1.0, 0.0, None).sum(axis=(0, 1), dtype=np.float64)
    return np.asarray(2.0 * np.sqrt(water * spacing[0] * spacing[1] / np.pi))


def draw_scale(options: ScanOptions, sizes_mm: Floats, z_mm: Floats, rng: np.random.Generator) -> Scale:
    """The scale of one scan: a drawn zero, a drift upward or downward along z, and the noise of each slice."""
    sign, offset = rng.choice([-1.0, 1.0]), rng.standard_normal()
    along = np.linspace(-0.5, 0.5, len(z_mm)) if len(z_mm) > 1 else np.zeros(1)
    return Scale(
        z_mm=z_mm,
        gain=1.0 + sign * options.drift_percent / 100.0 * along,
        offset_hu=float(options.offset_sd_hu * offset),
        noise_sd_hu=noise_sd_hu(options, sizes_mm, float(z_mm[1] - z_mm[0]) if len(z_mm) > 1 else 0.0),
        water_diameters_mm=sizes_mm,
    )


def noise_sd_hu(options: ScanOptions, sizes_mm: Floats, interval_mm: float) -> Floats:
    """The noise of each slice, (nz,), HU.

    Quanta go with the slice's thickness and, at a fixed tube current, with exp(-mu d) through a body of d of water: the
    noise is noise_hu * sqrt(3 mm / thickness) * exp(mu (d - 300 mm) / 2) times the kernel's.
    """
    thickness_mm = options.thickness_mm or interval_mm or _REFERENCE_THICKNESS_MM
    kernel = KERNELS["standard" if options.kernel == "none" else options.kernel]
    level = options.noise_hu * np.sqrt(_REFERENCE_THICKNESS_MM / thickness_mm) * noise_gain(kernel)
    if not options.noise_by_size:
        return np.full(len(sizes_mm), level)
    return np.asarray(level * np.exp(0.5 * MU_WATER_PER_MM * (sizes_mm - REFERENCE_DIAMETER_MM)))


def cupped(image: Image, body: Image, centre_hu: float) -> Image:
    """A slice, (nx, ny), whose attenuation falls towards the body's middle: by `centre_hu` for water there, 0 at its
    outline's ellipse and beyond.

    The drop is parabolic and in proportion to what attenuates, as residual beam hardening is.
    """
    tissue = body > BODY_HU
    if centre_hu == 0.0 or not tissue.any():
        return image
    squared = np.zeros(image.shape, dtype=np.float32)
    for axis in (0, 1):
        found = np.flatnonzero(tissue.any(axis=1 - axis))
        middle, half = 0.5 * (found[0] + found[-1]), 0.5 * (found[-1] - found[0] + 1)
        across = ((np.arange(image.shape[axis]) - middle) / half) ** 2
        squared += np.expand_dims(across.astype(np.float32), 1 - axis)
    drop = np.float32(centre_hu / 1000.0) * np.maximum(1.0 - squared, 0.0)
    return np.asarray(image - drop * np.maximum(image + 1000.0, 0.0), dtype=np.float32)
