"""CMA-ES on gradient correlation: the baseline finds what it should, in the metric that it says."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from hierbmd.errors import BadConfig, MissingExtra
from hierbmd.registration.bone import Search, register_bone
from hierbmd.registration.evolution import gradient_correlation, gradients, register_bone_cma
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import Outcome
from hierbmd.registration.target import target_error
from hierbmd.rigid import moved

OPTIONS = RegistrationOptions(search="cma", level_pixel_mm=(6.0, 3.0), seed=3)


@pytest.fixture
def search(blob_body, camera, start):
    """A search for a bone that is turned by up to 4 degrees and 9 mm in plane away; its true pose."""
    body = blob_body()
    truth = moved(start, np.r_[np.radians([3.0, -4.0, 2.0]), 9.0, -8.0, 6.0], body.pivot_world_mm)
    levels = make_levels(body.image(camera, truth)[0], camera, pixel_mm=OPTIONS.level_pixel_mm, smoothing_px=1.0)
    return Search(body, levels, start, OPTIONS), truth


def test_gradient_correlation_is_the_mean_of_two_correlations():
    rng = np.random.default_rng(0)
    seen, made = rng.normal(size=(2, 20, 30)).astype(np.float32)
    made += seen
    by_hand = [
        np.corrcoef(ndimage.sobel(seen.astype(float), axis).ravel(), ndimage.sobel(made.astype(float), axis).ravel())
        for axis in (0, 1)
    ]
    expected = np.mean([matrix[0, 1] for matrix in by_hand])
    assert gradient_correlation(gradients(seen), gradients(made)) == pytest.approx(expected, abs=1e-6)
    assert gradient_correlation(gradients(seen), gradients(3 * seen + 2)) == pytest.approx(1.0)
    assert gradient_correlation(gradients(seen), gradients(np.ones_like(seen))) == 0.0


def test_it_finds_the_bone_in_many_more_projections(search):
    wanted, truth = search
    wanted = replace(wanted, levels=wanted.levels[:1])
    found = register_bone_cma(wanted)
    assert found.outcome is Outcome.CONVERGED
    assert target_error(found.camera_from_world, truth, wanted.body.surface_world_mm).in_plane_mm < 1.0
    direct = register_bone(replace(wanted, options=replace(OPTIONS, search="starts")))
    assert found.steps > 10 * direct.steps
    assert np.array_equal(found.path[-1], found.camera_from_world)


def test_the_same_seed_gives_the_same_pose(search, monkeypatch):
    monkeypatch.setattr("hierbmd.registration.evolution._GENERATIONS", 6)
    coarse = make_levels(search[0].levels[0].pixels, search[0].levels[0].camera, pixel_mm=(12.0,), smoothing_px=1.0)
    short = replace(search[0], levels=coarse)
    one, again = register_bone_cma(short), register_bone_cma(short)
    assert np.array_equal(one.camera_from_world, again.camera_from_world)
    other = register_bone_cma(replace(short, options=replace(OPTIONS, seed=4)))
    assert not np.array_equal(one.camera_from_world, other.camera_from_world)


def test_it_stays_in_the_box(search):
    narrow = replace(OPTIONS, start_in_plane_mm=3.0, bound_in_plane_mm=4.0)
    found = register_bone_cma(replace(search[0], levels=search[0].levels[:1], options=narrow))
    assert found.outcome is Outcome.AT_BOUNDS
    assert np.all(np.abs(search[0].box.coordinates(found.camera_from_world)[3:5]) <= 4.0 + 1e-6)


def test_a_blank_image_is_flat(search):
    blank = make_levels(np.zeros((80, 96), np.float32), search[0].levels[-1].camera, pixel_mm=(6.0,), smoothing_px=1.0)
    assert register_bone_cma(replace(search[0], levels=blank)).outcome is Outcome.FLAT


def test_without_the_package_the_extra_is_named(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(MissingExtra, match=r"hierbmd\[cma\]"):
        register_bone_cma(search[0])


def test_another_search_is_refused():
    with pytest.raises(BadConfig, match="starts, cma"):
        RegistrationOptions(search="adam")
