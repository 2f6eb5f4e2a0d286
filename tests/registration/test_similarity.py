"""The residual, its exact Jacobian, and what similarity means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.registration.level import make_levels
from hierbmd.registration.similarity import fit
from hierbmd.registration.window import make_target, reweighted
from hierbmd.rigid import moved


def _target(body, camera, pose, *, others=(), seen=None, gains=1, noise=0.05):
    """A target on the finest level of an image of the bodies with a slope and noise over it."""
    image = body.image(camera, pose)[0] + sum((other.image(camera, where)[0] for other, where in others), 0.0)
    rows, columns = np.mgrid[: camera.size_px[1], : camera.size_px[0]]
    image = (image if seen is None else seen) * (1 + 0.004 * columns) + 0.01 * rows
    image = image + noise * image.std() * np.random.default_rng(0).normal(size=image.shape)
    (level,) = make_levels(image.astype(np.float32), camera, pixel_mm=(3.0,), smoothing_px=1.0)
    target = make_target(level, body, pose, margin_px=20.0 / 3.0, others=others)
    assert target is not None
    ramp = np.tile(np.linspace(-1, 1, target.weights.size // 2), 2)
    return replace(target, gains=np.stack([np.ones_like(ramp), ramp][:gains]))


def _fit(body, target, pose):
    image, jacobian = body.projector.image_and_jacobian(target.camera, pose, body.pivot_world_mm)
    return fit(target, image[0], jacobian[0])


@pytest.mark.parametrize("gains", [1, 2])
@pytest.mark.parametrize("with_others", [False, True])
def test_residual_jacobian_matches_finite_differences(blob_body, camera, start, gains, with_others):
    body, other = blob_body(seed=0), blob_body(seed=5, centre=(25.0, 0.0, 10.0))
    others = ((other, start),) if with_others else ()
    target = _target(body, camera, start, others=others, gains=gains)
    away = moved(start, np.array([0.03, -0.02, 0.04, 1.5, -2.0, 4.0]), body.pivot_world_mm)
    found = _fit(body, target, away)
    steps = np.array([2e-3, 2e-3, 2e-3, 0.1, 0.1, 0.5])
    for axis, step in enumerate(steps):
        twist = np.zeros(6)
        twist[axis] = step
        ahead = _fit(body, target, moved(away, twist, body.pivot_world_mm))
        behind = _fit(body, target, moved(away, -twist, body.pivot_world_mm))
        numeric = (ahead.residual - behind.residual) / (2 * step)
        error = np.linalg.norm(numeric - found.jacobian[:, axis]) / np.linalg.norm(numeric)
        assert error < 5e-3, axis
        by_cost = (ahead.cost - behind.cost) / (2 * step)
        assert 2 * found.jacobian[:, axis] @ found.residual == pytest.approx(by_cost, rel=2e-2, abs=1e-6)


def test_cost_is_one_minus_ncc_squared(blob_body, camera, start):
    body = blob_body()
    target = _target(body, camera, start)
    away = moved(start, np.array([0.0, 0.0, 0.02, 2.0, 0.0, 0.0]), body.pivot_world_mm)
    found = _fit(body, target, away)
    model, seen = target.gather(body.image(target.camera, away)[0]), target.observed
    ncc = float(model @ seen / (np.linalg.norm(model) * np.linalg.norm(seen)))
    assert found.cost == pytest.approx(1 - ncc**2, abs=1e-6)
    assert found.similarity == pytest.approx(ncc, abs=1e-6)


def test_similarity_does_not_see_the_bones_brightness(blob_body, camera, start):
    body = blob_body()
    target = _target(body, camera, start)
    image, jacobian = body.projector.image_and_jacobian(target.camera, start, body.pivot_world_mm)
    one, other = fit(target, image[0], jacobian[0]), fit(target, 50 * image[0], 50 * jacobian[0])
    assert other.similarity == pytest.approx(one.similarity, abs=1e-5)
    assert np.allclose(other.jacobian, one.jacobian, atol=1e-4)


def test_inverted_contrast_is_no_similarity(blob_body, camera, start):
    body = blob_body()
    target = _target(body, camera, start, seen=-body.image(camera, start)[0])
    assert _fit(body, target, start).similarity == 0.0


def test_a_bone_that_adds_nothing_to_its_neighbours_is_not_similar(blob_body, camera, start):
    body, other = blob_body(seed=0), blob_body(seed=5, centre=(10.0, 0.0, 0.0))
    others = ((other, start),)
    there = _target(body, camera, start, others=others, noise=0.01)
    absent = _target(body, camera, start, others=others, noise=0.01, seen=other.image(camera, start)[0])
    assert _fit(body, there, start).similarity > 0.8
    assert _fit(body, absent, start).similarity < 0.2


def test_nothing_to_see_costs_one(blob_body, camera, start):
    body = blob_body()
    target = _target(body, camera, start)
    height, width = target.inside.shape
    nothing = fit(target, np.zeros((height, width), np.float32), np.zeros((height, width, 6), np.float32))
    assert nothing.cost == 1.0
    assert nothing.similarity == 0.0
    assert not nothing.jacobian.any()


def test_outliers_weigh_less_after_reweighting(blob_body, camera, start):
    body = blob_body()
    seen = body.image(camera, start)[0].copy()
    seen[40:44, 40:44] += 3 * seen.max()
    target = _target(body, camera, start, seen=seen, noise=0.0)
    found = _fit(body, target, start)
    again = reweighted(target, found.residual)
    worst = np.argmax(np.abs(found.residual))
    assert again.weights[worst] < 0.2 * target.weights[worst]
    assert _fit(body, again, start).similarity > found.similarity
