"""Simulated radiographs: the mono-energetic limit, beam hardening, noise, display, repeatability."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.errors import NotHounsfield, RaysMissVolume
from hierbmd.geometry import Motion, Placement, Side, View
from hierbmd.physics.attenuation import mass_attenuation_cm2_g
from hierbmd.physics.spectrum import tube_spectrum
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.radiograph import simulate_radiograph, transmitted

BARE = RadiographSimulationOptions(
    monoenergetic_kev=70.0,
    scatter=False,
    noise=False,
    display=False,
    focal_spot_mm=0.0,
    screen_mm=0.0,
    step_mm=0.5,
    table=False,
)


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_the_monoenergetic_limit_is_the_projectors_attenuation(patient, small_geometry, backend):
    """Within 0.5 % where anything is absorbed: two samplings of one field."""
    from hierbmd.drr.projector import make_projector
    from hierbmd.drr.scene import Quantity, make_scene

    body = Volume(np.where(patient.body.values <= -950, -1000, patient.body.values), patient.body.grid)
    simulated = simulate_radiograph(body, None, small_geometry, options=BARE).pixels
    projector = make_projector(make_scene(body, quantity=Quantity.ATTENUATION), backend)
    projected = projector.image(small_geometry.camera, small_geometry.camera_from_world)[0]
    thick = projected > 0.5
    assert thick.mean() > 0.3
    assert np.abs(simulated[thick] / projected[thick] - 1).max() < 0.005


def test_beam_hardening_is_what_the_spectrum_says():
    """Doubled bone does not double the log signal, by the amount of a direct sum over 1 keV bins of the tables."""
    spectrum = tube_spectrum(80.0, "3.0 mm Al + 0.1 mm Cu")
    energies = spectrum.energy_kev
    absorbed = 1 - np.exp(-0.18 * mass_attenuation_cm2_g("cesium_iodide", energies))
    weights = spectrum.fluence * absorbed * energies
    soft = 0.106 * mass_attenuation_cm2_g("soft_tissue", energies)
    mineral = 0.1 * mass_attenuation_cm2_g("hydroxyapatite", energies)
    matrix = 0.04 * mass_attenuation_cm2_g("collagen", energies)
    bone = mineral + matrix - (1 / 3.16 + 0.4 / 1.41) * soft
    logs = []
    for thickness_mm in (15.0, 30.0):
        integrals = np.array([[[0.0, 200.0, thickness_mm * 1.1, 0.0]]], dtype=np.float32)
        direct = -np.log(np.sum(weights * np.exp(-200.0 * soft - 1.1 * thickness_mm * bone)) / weights.sum())
        simulated = -np.log(transmitted(integrals, spectrum)[0, 0])
        assert simulated == pytest.approx(direct, rel=1e-3)
        logs.append(simulated)
    empty = -np.log(transmitted(np.array([[[0.0, 200.0, 0.0, 0.0]]], np.float32), spectrum)[0, 0])
    assert (logs[1] - empty) < 1.97 * (logs[0] - empty)


def test_a_hard_beam_hardens_less_than_a_soft_one():
    def ratio(kvp, filtration):
        integrals = np.array([[[0, 0, 16.0, 0], [0, 0, 32.0, 0]]], np.float32)
        one, two = -np.log(transmitted(integrals, tube_spectrum(kvp, filtration)))[0]
        return two / one

    assert ratio(70, "3.0 mm Al") < ratio(120, "3.0 mm Al + 0.2 mm Cu") < 2


@pytest.fixture(scope="module")
def image(patient, small_geometry):
    return simulate_radiograph(patient.body, patient.labels, small_geometry, seed=4)


def test_the_same_seed_gives_the_same_pixels(patient, small_geometry, image):
    again = simulate_radiograph(patient.body, patient.labels, small_geometry, seed=4)
    assert again.pixels.tobytes() == image.pixels.tobytes()
    other = simulate_radiograph(patient.body, patient.labels, small_geometry, seed=5)
    assert not np.array_equal(other.pixels, image.pixels)


def test_it_says_what_it_shows(image, small_geometry):
    assert image.view == View.AP
    assert image.side == Side.BOTH
    assert image.pixel_mm == small_geometry.camera.pixel_mm
    assert image.sdd_mm == 1150.0
    assert image.source_isocentre_mm == pytest.approx(1008.0, abs=1.0)


def test_display_values_are_whole_and_bone_is_bright(patient, small_geometry, image):
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, np.rint(image.pixels))
    assert 0 <= image.pixels.min() < image.pixels.max() <= 4095
    camera, pose = small_geometry.camera, small_geometry.camera_from_world
    head = pose[:3, :3] @ patient.hip_centres_world_mm["left"] + pose[:3, 3]
    u, v = camera.pixels_from_camera(head).round().astype(int)
    assert image.pixels[v, u] > np.median(image.pixels) > image.pixels[:, :2].mean()


def test_the_patients_left_is_on_the_images_right(patient, small_geometry):
    """Without its left femur the image changes on its right half only."""
    gone = patient.body.values.copy()
    gone[patient.labels.mask("femur_left")] = 50.0
    whole = simulate_radiograph(patient.body, None, small_geometry, options=BARE).pixels
    without = simulate_radiograph(Volume(gone, patient.body.grid), None, small_geometry, options=BARE).pixels
    changed = np.abs(whole - without) > 0.05
    assert changed[:, 52:].sum() > 50
    assert changed[:, :44].sum() == 0


def test_noise_falls_with_dose_and_scatter_fills_the_shadows(patient, small_geometry):
    raw = dataclasses.replace(RadiographSimulationOptions(kvp=80.0, display=False), scatter=False)
    clean = simulate_radiograph(patient.body, None, small_geometry, options=dataclasses.replace(raw, noise=False))
    spread = {}
    for dose_ugy in (2.0, 20.0, 200.0):
        options = dataclasses.replace(raw, dose_ugy=dose_ugy)
        noisy = simulate_radiograph(patient.body, None, small_geometry, options=options)
        middle = (slice(30, 66), slice(20, 76))
        spread[dose_ugy] = np.var(noisy.pixels[middle] - clean.pixels[middle])
    assert spread[20.0] / spread[200.0] == pytest.approx(10.0, rel=0.05)
    assert 10.5 < spread[2.0] / spread[20.0] < 14.0, "of few quanta the logarithm and the electronics make more"
    scattered = simulate_radiograph(
        patient.body, None, small_geometry, options=dataclasses.replace(raw, noise=False, scatter=True, grid=False)
    )
    assert np.ptp(scattered.pixels[40:56]) < 0.8 * np.ptp(clean.pixels[40:56])


def test_more_rays_a_pixel_smooth_and_agree(patient, small_geometry):
    one = simulate_radiograph(patient.body, None, small_geometry, options=BARE).pixels
    four = simulate_radiograph(patient.body, None, small_geometry, options=dataclasses.replace(BARE, rays=2)).pixels
    assert np.mean(np.abs(one - four)) < 0.05
    assert np.abs(np.diff(four, axis=1)).mean() < np.abs(np.diff(one, axis=1)).mean()


def test_what_cannot_be_imaged_is_refused(patient, small_geometry):
    with pytest.raises(NotHounsfield):
        simulate_radiograph(patient.density, None, small_geometry)
    pose = Placement(View.AP, patient.body.grid.centre_world_mm, 1000.0).camera_from_world(Motion(tx_mm=3000.0))
    with pytest.raises(RaysMissVolume):
        simulate_radiograph(patient.body, None, dataclasses.replace(small_geometry, camera_from_world=pose))


def test_a_real_ct_gives_a_radiograph(shared_data):
    """torso-ct: the nail in the left femur is the densest thing on the image and lies on its right half."""
    from hierbmd.geometry import Camera, ProjectionGeometry
    from hierbmd.io.ct import read_volume

    volume = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    pose = Placement(View.AP, volume.grid.centre_world_mm, 1000.0).camera_from_world()
    geometry = ProjectionGeometry(Camera(1150.0, (110, 110), (4.0, 4.0)), pose, View.AP, Side.BOTH)
    raw = simulate_radiograph(
        volume, None, geometry, options=RadiographSimulationOptions(display=False, noise=False, scatter=False)
    ).pixels
    row, column = np.unravel_index(np.argmax(raw), raw.shape)
    assert column > 55
    assert row > 55
    shown = simulate_radiograph(volume, None, geometry, seed=1).pixels
    assert shown.std() > 300
