"""Simulated radiographs of virtual and real CTs: materials, beam, scatter, noise and display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import NotHounsfield
from hierbmd.geometry import Grid, ProjectionGeometry
from hierbmd.physics import detector
from hierbmd.physics.scatter import NO_GRID, add_scatter
from hierbmd.physics.scatter import Grid as ScatterGrid
from hierbmd.physics.spectrum import Spectrum, monoenergetic, tube_spectrum
from hierbmd.rigid import Matrix, transform_points
from hierbmd.simulation.basis import Basis, attenuation_per_mm, decompose, without_table
from hierbmd.simulation.bone_motion import with_moved_bones
from hierbmd.simulation.display import displayed, draw_curve
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.raymarch import block_mean, line_integrals, supersampled

Image = NDArray[np.float32]

WATER_PER_MM = 0.021
"""Effective attenuation of water in a diagnostic beam, 1/mm: NIST XCOM near 55 keV. It turns signal into thickness."""

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Beam:
    """What was drawn for one exposure: the spectrum and the mean dose behind the patient in microgray."""

    spectrum: Spectrum
    dose_ugy: float


def simulate_radiograph(
    volume: Volume,
    labels: LabelMap | None,
    geometry: ProjectionGeometry,
    *,
    options: RadiographSimulationOptions | None = None,
    seed: int = 0,
    bone_motions: Mapping[str, Matrix] | None = None,
) -> Radiograph:
    """A radiograph of a CT in HU, virtual or real, at a geometry; the same seed gives the same pixels.

    `bone_motions` moves bones of `labels` on their own before the exposure: name to world_from_world (4x4, LPS mm), so
    a bone's own pose on the radiograph is geometry.camera_from_world @ motion. The result has bone bright, the
    geometry's spacing, distance, view and side. RaysMissVolume, LabelsMismatch, NotHounsfield for input that cannot be
    imaged.
    """
    options = options or RadiographSimulationOptions()
    basis = materials_of(volume, options)
    if bone_motions and labels is not None:
        basis = with_moved_bones(basis, labels, bone_motions)
    return expose(basis, geometry, options=options, seed=seed)


def materials_of(volume: Volume, options: RadiographSimulationOptions) -> Basis:
    """The materials of a CT: table removed when asked, air thresholded at -950 HU so that its noise absorbs nothing."""
    if volume.unit != "HU":
        raise NotHounsfield(f"values are in {volume.unit}, not HU", where="the CT", mend="give the CT, not the density")
    return decompose(without_table(volume) if options.table else volume, air_hu=-950.0)


def expose(
    basis: Basis, geometry: ProjectionGeometry, *, options: RadiographSimulationOptions, seed: int
) -> Radiograph:
    """The radiograph of materials: the part of `simulate_radiograph` that several exposures of one patient repeat."""
    rng = np.random.default_rng([seed, 0x5AD1])
    beam = draw_beam(rng, options)
    camera = supersampled(geometry.camera, options.rays)
    integrals = line_integrals(basis.amounts, basis.grid, camera, geometry.camera_from_world, step_mm=options.step_mm)
    primary = block_mean(transmitted(integrals, beam.spectrum), options.rays)
    signal = _at_detector(primary, geometry, basis.grid, options)
    pixel_mm = geometry.camera.pixel_mm
    patient = primary < 0.6
    if options.noise:
        quanta = detector.mean_quanta(signal, pixel_mm, dose_ugy=beam.dose_ugy, behind_patient=patient)
        scale = float(np.max(signal)) / max(float(np.max(quanta)), _SMALLEST)
        signal = detector.noisy(quanta, pixel_mm, rng) * np.float32(scale)
    absorbed = -np.log(np.maximum(signal, np.float32(_SMALLEST)))
    if options.display:
        absorbed = displayed(absorbed, patient, pixel_mm, draw_curve(rng, bits=options.bits, site=options.site))
    return Radiograph(
        pixels=np.asarray(absorbed, dtype=np.float32),
        pixel_mm=pixel_mm,
        sdd_mm=geometry.camera.sdd_mm,
        source_isocentre_mm=_source_isocentre_mm(geometry, basis.grid),
        view=geometry.view,
        side=geometry.side,
    )


def draw_beam(rng: np.random.Generator, options: RadiographSimulationOptions) -> Beam:
    """The beam of one exposure; two numbers are drawn whatever the options say, so that fixing one changes no other."""
    kvp, dose = rng.uniform(75.0, 90.0), np.exp(rng.uniform(np.log(1.5), np.log(5.0)))
    kvp = kvp if options.kvp is None else options.kvp
    dose = dose if options.dose_ugy is None else options.dose_ugy
    if options.monoenergetic_kev is not None:
        return Beam(monoenergetic(options.monoenergetic_kev), float(dose))
    return Beam(tube_spectrum(float(kvp), options.filtration), float(dose))


def transmitted(integrals: Image, spectrum: Spectrum) -> Image:
    """The primary signal behind the patient relative to the open beam, (H, W), from line integrals (H, W, 4) in mm.

    The sum over energies of the detector's weight times exp(-sum of mu_m(E) A_m); energies go two keV at a time, which
    changes the logarithm by less than 0.1 % (tested).
    """
    energies, weights = _binned(spectrum)
    per_mm = attenuation_per_mm(energies).astype(np.float32)
    flat = integrals.reshape(-1, integrals.shape[-1])
    signal = np.zeros(len(flat), dtype=np.float32)
    for weight, mu in zip(weights, per_mm, strict=True):
        signal += np.float32(weight) * np.exp(-(flat @ mu))
    return signal.reshape(integrals.shape[:-1])


def _binned(spectrum: Spectrum) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    energies, weights = spectrum.energy_kev, spectrum.weights()
    if len(energies) < 4:
        return energies, weights
    rest = len(energies) % 2
    pairs = np.pad(weights, (0, rest)).reshape(-1, 2)
    centres = np.pad(energies, (0, rest), mode="edge").reshape(-1, 2)
    total = pairs.sum(axis=1)
    kept = total > 1e-5
    return ((pairs * centres).sum(axis=1) / np.maximum(total, 1e-30))[kept], total[kept] / total[kept].sum()


def _at_detector(
    primary: Image, geometry: ProjectionGeometry, grid: Grid, options: RadiographSimulationOptions
) -> Image:
    """Scatter and blur."""
    pixel_mm, signal = geometry.camera.pixel_mm, primary
    if options.scatter:
        water_cm = (-np.log(np.maximum(primary, _SMALLEST)) / (10.0 * WATER_PER_MM)).astype(np.float32)
        signal = add_scatter(primary, water_cm, pixel_mm, ScatterGrid() if options.grid else NO_GRID)
    magnification = geometry.camera.sdd_mm / _source_isocentre_mm(geometry, grid)
    return detector.blurred(
        signal,
        pixel_mm,
        focal_spot_mm=options.focal_spot_mm,
        magnification=magnification,
        screen_mm=options.screen_mm,
    )


def _source_isocentre_mm(geometry: ProjectionGeometry, grid: Grid) -> float:
    """The distance along the axis from the source to the volume's centre: the isocentre where none is named."""
    return float(transform_points(geometry.camera_from_world, grid.centre_world_mm)[2])
