"""Levenberg-Marquardt and its box."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.registration.refine import Box, refine
from hierbmd.registration.similarity import Fit
from hierbmd.rigid import moved

PIVOT = np.array([10.0, -5.0, 20.0])
HALF = np.array([0.3, 0.3, 0.3, 20.0, 20.0, 40.0])
TOLERANCE = np.array([1e-7] * 3 + [1e-5] * 3)
SCALE = np.array([200.0, 150.0, 300.0, 1.0, 2.0, 0.1])


def _bowl(box, lowest):
    """A quadratic in the box's coordinates, as a residual of six numbers."""

    def evaluate(pose):
        residual = SCALE * (box.coordinates(pose) - lowest)
        jacobian = np.zeros((6, 6))
        for axis in range(6):
            twist = np.zeros(6)
            twist[axis] = 1e-6
            ahead = SCALE * (box.coordinates(moved(pose, twist, PIVOT)) - lowest)
            jacobian[:, axis] = (ahead - residual) / 1e-6
        return Fit(residual, jacobian, float(residual @ residual), 1.0, 1.0)

    return evaluate


def test_coordinates_and_pose_are_inverse(start):
    box = Box(start, PIVOT, HALF)
    x = np.array([0.1, -0.2, 0.05, 3.0, -4.0, 9.0])
    assert np.allclose(box.coordinates(box.pose(x)), x, atol=1e-12)


def test_reaches_the_bottom_in_a_few_steps(start):
    box = Box(start, PIVOT, HALF)
    lowest = np.array([0.1, -0.05, 0.2, 5.0, -7.0, 12.0])
    end = refine(_bowl(box, lowest), start, box=box, step_tolerance=TOLERANCE, max_steps=25)
    assert end.settled
    assert end.steps < 15
    assert np.allclose(box.coordinates(end.pose), lowest, atol=1e-3)


def test_a_bottom_outside_the_box_ends_at_its_edge(start):
    box = Box(start, PIVOT, HALF)
    end = refine(_bowl(box, np.array([0, 0, 0, 30.0, 0, 0])), start, box=box, step_tolerance=TOLERANCE, max_steps=40)
    assert box.coordinates(end.pose)[3] == pytest.approx(20.0)
    assert box.at_edge(end.pose)
    assert not box.at_edge(start)


def test_too_few_steps_are_not_settled(start):
    box = Box(start, PIVOT, HALF)
    end = refine(_bowl(box, np.full(6, 0.1)), start, box=box, step_tolerance=TOLERANCE, max_steps=2)
    assert not end.settled


def test_poses_that_cannot_be_projected_are_taken_back(start):
    box = Box(start, PIVOT, HALF)
    bowl = _bowl(box, np.array([0, 0, 0, 10.0, 0, 0]))

    def walled(pose):
        return None if box.coordinates(pose)[3] > 6.0 else bowl(pose)

    end = refine(walled, start, box=box, step_tolerance=TOLERANCE, max_steps=60)
    assert box.coordinates(end.pose)[3] <= 6.0
    assert refine(lambda _: None, start, box=box, step_tolerance=TOLERANCE, max_steps=5) is None
