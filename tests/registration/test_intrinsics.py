"""A free source-detector distance: its derivative, that it comes back, and that its standard error is its scatter."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Beam, Camera, Grid, Placement, ProjectionGeometry, View
from hierbmd.registration.body import make_body
from hierbmd.registration.files import write_intrinsics
from hierbmd.registration.intrinsics import SddEstimate, image_and_slopes, refine_sdd
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.patient import register_bones, register_bones_free_sdd
from hierbmd.rigid import moved, transform_points

TRUE = Camera(600.0, (96, 96), (4.0, 4.0))
NEAR = Placement(View.AP, np.zeros(3), 420.0).camera_from_world()
"""A short distance and a large bone: there perspective tells distance from depth."""


@pytest.fixture(scope="module")
def scan():
    """Two clouds of dense balls in a CT of 4 mm voxels, 150 mm deep, side by side."""
    matrix = np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] = [-98.0, -78.0, -78.0]
    grid = Grid((50, 40, 40), matrix)
    points = transform_points(
        matrix, np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).astype(float)
    )
    hu, ids = np.full(grid.shape, 40.0), np.zeros(grid.shape, np.uint8)
    rng = np.random.default_rng(4)
    for identifier, side in ((75, 1), (77, -1)):
        for centre in rng.uniform([16, -62, -62], [80, 62, 62], (16, 3)) * [side, 1, 1]:
            distance = np.linalg.norm(points - centre, axis=-1)
            hu += 900.0 * np.clip((14.0 - distance) / 5.0, 0, 1)
            ids[distance < 14.0] = identifier
    return Volume(hu.astype(np.float32), grid), LabelMap(ids, grid, {"femur_left": 75, "hip_left": 77})


@pytest.fixture(scope="module")
def bodies(scan):
    """The two of them, ready to be projected."""
    volume, labels = scan
    return [make_body(n, volume, labels, structures=(n,), metal_hu=9000.0) for n in ("femur_left", "hip_left")]


@pytest.fixture
def files(scan, bodies):
    """The CT, its labels, and a radiograph that the true camera took."""
    image = sum(body.image(TRUE, NEAR)[0] for body in bodies)
    noise = np.random.default_rng(1).normal(size=image.shape)
    pixels = (image + 0.02 * image.std() * noise).astype(np.float32)
    return *scan, Radiograph(pixels, TRUE.pixel_mm, TRUE.sdd_mm, 420.0, View.AP)


def _level(bodies, camera, *, noise=0.0, seed=0, sdd_mm=None):
    """The radiograph that the true camera takes, on a level whose camera says `sdd_mm`."""
    image = sum(body.image(camera, NEAR)[0] for body in bodies)
    image = image + noise * image.std() * np.random.default_rng(seed).normal(size=image.shape)
    said = replace(camera, sdd_mm=sdd_mm or camera.sdd_mm)
    return make_levels(image.astype(np.float32), said, pixel_mm=(4.0,), smoothing_px=1.0)[0]


@pytest.mark.parametrize("beam", [Beam.CONE, Beam.SLOT])
def test_the_derivative_by_the_distance_is_that_of_finite_differences(bodies, beam):
    body, camera = bodies[0], replace(TRUE, beam=beam)
    _, slopes = image_and_slopes(body, camera, NEAR)
    step = 0.1
    ahead, behind = (body.image(replace(camera, sdd_mm=600.0 + d), NEAR)[0].astype(float) for d in (step, -step))
    difference = (ahead - behind) / (2 * step)
    assert np.linalg.norm(slopes[..., 6] - difference) < 0.02 * np.linalg.norm(difference)
    assert np.linalg.norm(difference) > 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_wrong_distance_comes_right(bodies, count):
    some = bodies[:count]
    level = _level(some, TRUE, noise=0.02, sdd_mm=625.0)
    # With the wrong distance a bone of the right size seems to lie deeper.
    start = tuple((body, moved(NEAR, np.array([0, 0.01, 0, 0.5, 0, 17.0]), body.pivot_world_mm)) for body in some)
    found = refine_sdd(level, start)
    assert found.determined, found.why
    assert found.given_mm == 625.0
    assert abs(found.sdd_mm - 600.0) < 3.0 * found.standard_error_mm + 0.5
    assert abs(found.sdd_mm - 600.0) < 12.0
    assert all(correlation > 0.9 for correlation in found.depth_correlation.values())
    for body in some:
        error = transform_points(found.poses[body.name], body.pivot_world_mm) - transform_points(
            NEAR, body.pivot_world_mm
        )
        assert abs(error[2]) < 9.0


def test_its_standard_error_is_the_scatter_of_noisy_runs(bodies):
    some = bodies[:1]
    found = [
        refine_sdd(_level(some, TRUE, noise=0.1, seed=seed, sdd_mm=610.0), tuple((body, NEAR) for body in some))
        for seed in range(16)
    ]
    assert all(one.determined for one in found)
    error = np.array([one.sdd_mm - 600.0 for one in found])
    stated = np.array([one.standard_error_mm for one in found])
    ratio = np.sqrt(np.mean(error**2)) / stated.mean()
    assert 0.5 < ratio < 1.7, (ratio, error, stated)


def test_what_the_image_does_not_determine_stays_as_given(bodies):
    parallel = replace(TRUE, beam=Beam.PARALLEL)
    start = ((bodies[0], NEAR),)
    lost = refine_sdd(_level(bodies[:1], parallel), start)
    assert not lost.determined
    assert lost.sdd_mm == 600.0
    assert np.array_equal(lost.poses["femur_left"], NEAR)
    noisy = refine_sdd(_level(bodies[:1], TRUE, noise=3.0), start)
    assert not noisy.determined
    assert noisy.why
    off = moved(NEAR, np.array([0, 0, 0, 900.0, 0, 0]), np.zeros(3))
    assert "not on the image" in refine_sdd(_level(bodies[:1], TRUE), ((bodies[0], off),)).why


def test_nothing_found_leaves_the_distance(bodies):
    nothing = refine_sdd(_level(bodies, TRUE), ())
    assert (nothing.determined, nothing.sdd_mm) == (False, 600.0)
    assert "no bone was found" in nothing.why


def test_all_of_it_from_a_wrong_distance(files):
    volume, labels, radiograph = files
    start = ProjectionGeometry(
        replace(TRUE, sdd_mm=620.0), moved(NEAR, np.r_[0.03, 0, 0.02, 3, 2, 10], np.zeros(3)), View.AP
    )
    options = RegistrationOptions(starts=2, level_pixel_mm=(8.0, 4.0), metal_hu=9000.0)
    names = ("femur_left", "hip_left")
    freely = register_bones_free_sdd(volume, labels, radiograph, start, bones=names, options=options)
    estimate = freely.estimate
    assert estimate.determined, estimate.why
    assert abs(estimate.sdd_mm - 600.0) < 3.0 * estimate.standard_error_mm + 0.5
    assert freely.start.camera.sdd_mm == estimate.sdd_mm
    fixed = register_bones(volume, labels, radiograph, freely.start, bones=names, options=options)
    for name, one in freely.found.items():
        assert one.converged, one.outcome
        share = estimate.standard_error_mm / estimate.sdd_mm
        assert one.uncertainty.depth_mm > max(fixed[name].uncertainty.depth_mm, 300.0 * share)


def test_the_file_of_intrinsics(tmp_path):
    known = SddEstimate(1000.0, 1012.3456, 7.0, {"hip_left": 0.98765}, {})
    write_intrinsics(tmp_path, known)
    written = json.loads((tmp_path / "intrinsics.json").read_text())
    assert (written["sdd_mm"], written["standard_error_mm"], written["determined"]) == (1012.346, 7.0, True)
    assert written["correlation_with_depth"] == {"hip_left": 0.9877}
    write_intrinsics(tmp_path, replace(known, sdd_mm=1000.0, standard_error_mm=np.inf, why="flat"))
    lost = json.loads((tmp_path / "intrinsics.json").read_text())
    assert (lost["determined"], lost["why_not"], lost["standard_error_mm"]) == (False, "flat", None)
