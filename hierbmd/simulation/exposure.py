"""From the primary beam behind the patient to the detector's reading: field, scatter, marker, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.geometry import Camera
from hierbmd.physics import detector
from hierbmd.physics.collimator import open_share
from hierbmd.physics.heel import anode_angles_deg, heel_factor
from hierbmd.physics.scatter import add_scatter
from hierbmd.physics.spectrum import Spectrum, monoenergetic, tube_spectrum
from hierbmd.simulation.acquisition import Acquisition
from hierbmd.simulation.marker import covered_share, lead_transmission
from hierbmd.simulation.options import RadiographSimulationOptions

Image = NDArray[np.float32]

WATER_PER_MM = 0.021
"""Effective attenuation of water in a diagnostic beam, 1/mm: NIST XCOM near 55 keV. It turns signal into thickness."""

CHAMBERS_MM = ((-100.0, -50.0), (50.0, 100.0)), (-80.0, -10.0)
"""Automatic exposure's two lateral chambers, x ranges and their y range from the central ray: 5 x 7 cm on either side,
above the middle, as they lie behind the ilia and hips of a pelvis. Layouts differ; this is a usual one, from memory."""

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Beam:
    """What was drawn for one exposure: the spectrum and the mean dose behind the patient in microgray."""

    spectrum: Spectrum
    dose_ugy: float

    @property
    def kvp(self) -> float:
        """The tube voltage: where the spectrum ends."""
        return float(self.spectrum.energy_kev[-1])


def exposure_rng(seed: int) -> np.random.Generator:
    """The random numbers of one exposure: its beam, then its noise, then its plain display curve."""
    return np.random.default_rng([seed, 0x5AD1])


def draw_beam(rng: np.random.Generator, options: RadiographSimulationOptions) -> Beam:
    """The beam of one exposure; two numbers are drawn whatever the options say, so that fixing one changes no other."""
    kvp, dose = rng.uniform(75.0, 90.0), np.exp(rng.uniform(np.log(1.5), np.log(5.0)))
    kvp = kvp if options.kvp is None else options.kvp
    dose = dose if options.dose_ugy is None else options.dose_ugy
    if options.monoenergetic_kev is not None:
        return Beam(monoenergetic(options.monoenergetic_kev), float(dose))
    return Beam(tube_spectrum(float(kvp), options.filtration), float(dose))


@dataclass(frozen=True)
class Shot:
    """One exposure: where from, with what beam, how; `source_isocentre_mm` is from the source to the patient."""

    camera: Camera
    beam: Beam
    acquisition: Acquisition
    options: RadiographSimulationOptions
    source_isocentre_mm: float


def at_detector(primary: Image, shot: Shot) -> Image:
    """The signal at the detector relative to the open beam on the axis, (H, W), from the primary behind the patient."""
    options, acquisition, camera = shot.options, shot.acquisition, shot.camera
    water_cm = (-np.log(np.maximum(primary, _SMALLEST)) / (10.0 * WATER_PER_MM)).astype(np.float32)
    signal = primary
    if acquisition.tube is not None:
        signal = signal * fall_off(shot, water_cm, camera.sdd_mm)
    if acquisition.field is not None:
        signal = signal * open_share(camera, acquisition.field, focal_spot_mm=options.focal_spot_mm)
    if options.scatter:
        signal = add_scatter(signal, water_cm, camera.pixel_mm, acquisition.grid, acquisition.kernel)
    if acquisition.marker is not None and acquisition.marker.kind == "lead":
        covered = covered_share(camera, acquisition.marker)
        signal = signal * (1.0 - covered * np.float32(1.0 - lead_transmission(shot.beam.spectrum)))
    return detector.blurred(
        signal,
        camera.pixel_mm,
        focal_spot_mm=options.focal_spot_mm,
        magnification=camera.sdd_mm / shot.source_isocentre_mm,
        screen_mm=0.0 if acquisition.panel is not None else options.screen_mm,
    )


def fall_off(shot: Shot, water_cm: Image, distance_mm: float) -> Image:
    """The beam over the field at a detector `distance_mm` away over that on its axis, (H, W): heel, distance, slant.

    Away from the axis a flat detector is met from further off and aslant: the cube of the ray's cosine. What a slot
    scanner does not spread does not fall off.
    """
    tube = shot.acquisition.tube
    assert tube is not None
    camera = Camera(distance_mm, shot.camera.size_px, shot.camera.pixel_mm, shot.camera.principal_px, shot.camera.beam)
    heel = heel_factor(anode_angles_deg(camera, tube.cathode), water_cm, kvp=shot.beam.kvp, anode_deg=tube.anode_deg)
    cosine = camera.sdd_mm / camera.ray_lengths_mm()
    return np.asarray(heel * cosine**3, dtype=np.float32)


def read_out(signal: Image, patient: NDArray[np.bool_], shot: Shot, rng: np.random.Generator) -> Image:
    """What the detector reads, (H, W), again relative to the open beam: exposure, noise, response and flat field."""
    acquisition, pixel_mm = shot.acquisition, shot.camera.pixel_mm
    if shot.options.noise or acquisition.panel is not None:
        dose_ugy = shot.beam.dose_ugy * 10.0 ** (acquisition.deviation_db / 10.0)
        chambers = patient & chambers_of(shot.camera) if shot.options.has("exposure") else patient
        measured = chambers if chambers.any() else patient
        quanta = detector.mean_quanta(signal, pixel_mm, dose_ugy=dose_ugy, behind_patient=measured)
        scale = float(np.max(signal)) / max(float(np.max(quanta)), _SMALLEST)
        if shot.options.noise:
            quanta = detector.noisy(quanta, pixel_mm, rng, spread=acquisition.panel is not None)
        elif acquisition.panel is not None:
            quanta = detector.with_mtf(quanta, pixel_mm)
        if acquisition.panel is not None:
            quanta = detector.saturated(quanta, pixel_mm) * _gain(shot.camera, acquisition.panel)
        signal = quanta * np.float32(scale)
    if acquisition.tube is not None and acquisition.tube.flat_field_mm is not None:
        signal = signal / fall_off(shot, np.zeros_like(signal), acquisition.tube.flat_field_mm)
    return np.asarray(signal, dtype=np.float32)


def chambers_of(camera: Camera) -> NDArray[np.bool_]:
    """The pixels before the lateral chambers of automatic exposure, (H, W)."""
    points = camera.detector_points_mm()
    columns, (top, bottom) = CHAMBERS_MM
    within = [(points[..., 0] >= left) & (points[..., 0] <= right) for left, right in columns]
    return np.asarray(np.any(within, axis=0) & (points[..., 1] >= top) & (points[..., 1] <= bottom))


def _gain(camera: Camera, panel: tuple[int, ...]) -> Image:
    """What flat-field correction leaves of a panel's unequal gain, about 1, (H, W); the same panel, the same gain.

    Half of its variance lies in patches of about 10 mm, as amplifiers and screens err.
    """
    rng = np.random.default_rng(panel)
    width, height = camera.size_px
    fine, coarse = rng.standard_normal((2, height, width))
    coarse = ndimage.gaussian_filter(coarse, [10.0 / mm for mm in camera.pixel_mm[::-1]], mode="wrap")
    mixed = np.sqrt(0.5) * (fine + coarse / max(float(coarse.std()), 1e-12))
    return np.asarray(1.0 + detector.GAIN_RESIDUAL * mixed, dtype=np.float32)
