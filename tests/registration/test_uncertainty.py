"""The stated standard errors are held to the scatter of repeated noisy runs."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.registration.bone import Search, register_bone
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.target import target_error
from hierbmd.registration.uncertainty import in_plane_std_mm, uncertainty
from hierbmd.rigid import moved, transform_points

OPTIONS = RegistrationOptions(starts=1, level_pixel_mm=(3.0,), min_similarity=0.1)


def test_standard_errors_are_the_scatter_of_noisy_runs(blob_body, camera, start):
    body = blob_body()
    image = body.image(camera, start)[0]
    shifts, stated, across = [], [], []
    for run in range(20):
        noise = np.random.default_rng(run).normal(size=image.shape)
        noisy = (image + 0.15 * image.std() * noise).astype(np.float32)
        levels = make_levels(noisy, camera, pixel_mm=OPTIONS.level_pixel_mm, smoothing_px=1.0)
        found = register_bone(Search(body, levels, start, OPTIONS))
        pivot = body.pivot_world_mm
        shifts.append(transform_points(found.camera_from_world, pivot) - transform_points(start, pivot))
        u = found.uncertainty
        stated.append((u.tx_mm, u.ty_mm, u.depth_mm, u.in_plane_mm))
        across.append(target_error(found.camera_from_world, start, body.surface_world_mm).in_plane_mm)
    scatter = np.sqrt(np.mean(np.square(shifts), axis=0))
    ratio = scatter / np.mean(np.array(stated)[:, :3], axis=0)
    assert np.all((ratio > 0.5) & (ratio < 1.6)), ratio
    assert 0.5 < np.mean(across) / np.mean(np.array(stated)[:, 3]) < 1.5
    depth_over_plane = np.mean(np.array(stated)[:, 2]) / np.mean(np.array(stated)[:, 0])
    assert depth_over_plane > 3, "one view hardly shows depth"


def test_in_plane_error_is_that_of_sampled_twists(blob_body, start):
    body = blob_body()
    rng = np.random.default_rng(0)
    root = np.diag([2e-3, 3e-3, 1e-3, 0.2, 0.1, 3.0]) @ (np.eye(6) + 0.3 * rng.normal(size=(6, 6)))
    squares = []
    for _ in range(3000):
        pose = moved(start, root @ rng.normal(size=6), body.pivot_world_mm)
        truth = transform_points(start, body.surface_world_mm)
        error = transform_points(pose, body.surface_world_mm) - truth
        ray = truth / np.linalg.norm(truth, axis=1, keepdims=True)
        squares.append(np.mean(np.sum((error - np.sum(error * ray, 1, keepdims=True) * ray) ** 2, axis=1)))
    stated = in_plane_std_mm(root @ root.T, start, body.pivot_world_mm, body.surface_world_mm)
    assert stated == pytest.approx(np.sqrt(np.mean(squares)), rel=0.05)


def test_undetermined_axes_are_infinite_and_null_in_json(blob_body, start):
    body = blob_body()
    unknown = uncertainty(None, start, body, [])
    assert np.isinf(unknown.depth_mm)
    assert unknown.as_dict()["depth_mm"] is None
    assert unknown.as_dict()["starts_in_plane_mm"] == 0.0


def test_spread_of_starts_is_their_distance(blob_body, start):
    body = blob_body()
    others = [moved(start, np.array([0, 0, 0, s, 0, 0]), body.pivot_world_mm) for s in (3.0, -4.0)]
    spread = uncertainty(None, start, body, others).starts_in_plane_mm
    assert spread == pytest.approx(np.sqrt((9 + 16) / 2), rel=0.01)


def test_spread_of_starts_axis_by_axis(blob_body, start):
    body = blob_body()
    twists = np.array([[0.0, np.radians(2.0), 0, 0, 1.0, 0], [0, 0, 0, 0, -1.0, 7.0]])
    spread = uncertainty(np.eye(6), start, body, [moved(start, twist, body.pivot_world_mm) for twist in twists])
    assert np.allclose(spread.starts, [0, np.sqrt(2.0), 0, 0, 1.0, np.sqrt(24.5)], atol=1e-9)
    named = spread.as_dict()
    assert named["starts_depth_mm"] == pytest.approx(np.sqrt(24.5))
    assert named["starts_ry_deg"] == pytest.approx(np.sqrt(2.0))
    assert "starts" not in named
