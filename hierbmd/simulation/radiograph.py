"""Simulated radiographs of virtual and real CTs: materials, beam, scatter, noise and display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.blocks import block_mean
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import NotHounsfield
from hierbmd.geometry import Grid, ProjectionGeometry
from hierbmd.physics.collimator import penumbra_mm
from hierbmd.physics.spectrum import Spectrum
from hierbmd.rigid import Matrix, transform_points
from hierbmd.simulation.acquisition import draw_acquisition
from hierbmd.simulation.basis import Basis, attenuation_per_mm, decompose, without_table
from hierbmd.simulation.bone_motion import with_moved_bones
from hierbmd.simulation.display import DisplayCurve, displayed, draw_curve
from hierbmd.simulation.exposure import Shot, at_detector, draw_beam, exposure_rng, read_out
from hierbmd.simulation.marker import covered_share
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.raymarch import line_integrals, supersampled

Image = NDArray[np.float32]

_SMALLEST = 1e-7


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
    acquisition = draw_acquisition(options, geometry, seed)
    rng = exposure_rng(seed)
    beam = draw_beam(rng, options)
    camera = supersampled(geometry.camera, options.rays)
    integrals = line_integrals(basis.amounts, basis.grid, camera, geometry.camera_from_world, step_mm=options.step_mm)
    primary = block_mean(transmitted(integrals, beam.spectrum), options.rays)
    shot = Shot(geometry.camera, beam, acquisition, options, _source_isocentre_mm(geometry, basis.grid))
    field = np.ones(primary.shape, bool) if acquisition.field is None else acquisition.field.contains(geometry.camera)
    patient = (primary < 0.6) & field
    signal = read_out(at_detector(primary, shot), patient, shot, rng)
    absorbed = -np.log(np.maximum(signal, np.float32(_SMALLEST)))
    if options.display:
        curve = draw_curve(rng, bits=acquisition.storage.bits, site=options.site)
        absorbed = shown(absorbed, patient, shot, replace(curve, multiscale=acquisition.multiscale))
    return Radiograph(
        pixels=np.asarray(absorbed, dtype=np.float32),
        pixel_mm=geometry.camera.pixel_mm,
        sdd_mm=geometry.camera.sdd_mm,
        source_isocentre_mm=shot.source_isocentre_mm,
        view=geometry.view,
        side=geometry.side,
    )


def shown(absorbed: Image, patient: NDArray[np.bool_], shot: Shot, curve: DisplayCurve) -> Image:
    """The display values of log exposure, (H, W): the vendor's processing, its shutter, a digital marker."""
    acquisition, camera = shot.acquisition, shot.camera
    inside = None
    if acquisition.field is not None:
        inside = acquisition.field.contains(camera, 0.5 * penumbra_mm(camera, shot.options.focal_spot_mm))
        patient = patient & inside
    values = displayed(absorbed, patient, camera.pixel_mm, curve, field=inside)
    if inside is not None and acquisition.shutter:
        values = np.where(inside, values, np.float32(0.0))
    if acquisition.marker is not None and acquisition.marker.kind == "digital":
        share = covered_share(camera, acquisition.marker)
        values = np.rint(values + share * (np.float32(2.0**curve.bits - 1.0) - values))
    return np.asarray(values, dtype=np.float32)


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


def _source_isocentre_mm(geometry: ProjectionGeometry, grid: Grid) -> float:
    """The distance along the axis from the source to the volume's centre: the isocentre where none is named."""
    return float(transform_points(geometry.camera_from_world, grid.centre_world_mm)[2])
