"""The yardstick itself, in cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.geometry import Beam
from hierbmd.registration.target import target_error
from hierbmd.rigid import moved, transform_points

POINTS = np.array([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0], [0.0, 40.0, 0.0], [0.0, 0.0, -50.0]])


def test_no_error(start):
    error = target_error(start, start, POINTS)
    assert (error.in_plane_mm, error.depth_mm, error.total_mm) == (0.0, 0.0, 0.0)


def test_a_shift_across_the_beam_is_in_plane(start):
    shifted = moved(start, np.array([0, 0, 0, 3.0, 0, 0]), np.zeros(3))
    error = target_error(shifted, start, POINTS[:1])
    assert error.in_plane_mm == pytest.approx(3.0)
    assert error.depth_mm == pytest.approx(0.0, abs=1e-9)


def test_a_shift_along_each_points_ray_is_depth_alone(start):
    point = np.array([[80.0, 0.0, 60.0]])
    ray = transform_points(start, point)[0]
    shifted = moved(start, np.r_[0, 0, 0, 10.0 * ray / np.linalg.norm(ray)], np.zeros(3))
    error = target_error(shifted, start, point)
    assert error.in_plane_mm == pytest.approx(0.0, abs=1e-9)
    assert error.depth_mm == pytest.approx(10.0)


def test_it_is_the_mean_over_points_and_total_is_in_space(start):
    turned = moved(start, np.array([0, 0, np.radians(2.0), 0, 0, 0]), np.zeros(3))
    arms = transform_points(start, POINTS) - transform_points(start, np.zeros(3))
    chords = 2 * np.sin(np.radians(1.0)) * np.hypot(arms[:, 0], arms[:, 1])
    error = target_error(turned, start, POINTS)
    assert error.total_mm == pytest.approx(chords.mean(), rel=1e-9)
    assert error.in_plane_mm <= error.total_mm


def test_in_a_slot_scan_a_shift_along_the_table_is_never_depth(start):
    point = np.array([[80.0, 0.0, 60.0]])
    along_table = moved(start, np.array([0, 0, 0, 0, 5.0, 0]), np.zeros(3))
    slot = target_error(along_table, start, point, beam=Beam.SLOT)
    assert (slot.in_plane_mm, slot.depth_mm) == (pytest.approx(5.0), pytest.approx(0.0, abs=1e-9))
    assert target_error(along_table, start, point).depth_mm > 0.3
    ray = transform_points(start, point)[0] * [1, 0, 1]
    along_ray = moved(start, np.r_[0, 0, 0, 10.0 * ray / np.linalg.norm(ray)], np.zeros(3))
    assert target_error(along_ray, start, point, beam=Beam.SLOT).in_plane_mm == pytest.approx(0.0, abs=1e-9)


def test_where_rays_are_parallel_only_the_beams_axis_is_depth(start):
    deeper = moved(start, np.array([0, 0, 0, 0, 0, 7.0]), np.zeros(3))
    error = target_error(deeper, start, POINTS, beam=Beam.PARALLEL)
    assert (error.in_plane_mm, error.depth_mm) == (0.0, pytest.approx(7.0))
