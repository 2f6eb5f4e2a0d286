"""Gradients by a camera's numbers and by the depth: of an ellipsoid's closed form, and of the exact reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hierbmd.drr.autograd import project
from hierbmd.drr.projector import make_projector
from hierbmd.drr.reference import ReferenceProjector
from hierbmd.drr.views import Intrinsics
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, View

AXES_MM = np.array([26.0, 19.0, 23.0])
TURN = Rotation.from_euler("xyz", [10, 30, 50], degrees=True).as_matrix()
CAMERA = Camera(1000.0, (24, 22), (2.6, 2.9), (11.0, 11.6))
FINE = Camera(1000.0, (96, 88), (0.65, 0.725), (44.0, 46.4))
STEPS = np.array([0.1, 1e-4, 1e-4, 1e-3, 1e-3, 0.01])
"""Of sdd (mm), du, dv (mm), u0, v0 (px), and of the depth: how far the patient is from the source (mm)."""
UNITS = np.array([100.0, 1.0, 1.0, 10.0, 10.0, 100.0])
"""Steps of the six that change an image about alike."""


@pytest.fixture(scope="module")
def ellipsoid(phantoms):
    """An ellipsoid that thins out towards its surface as 1 - r^2, on a grid of 1 mm, and a pose that sees it."""
    matrix = np.eye(4)
    matrix[:3, 3] = [-30, -40, 15]
    grid = Grid((60, 60, 60), matrix)

    def density(points):
        r2 = np.sum(((points - grid.centre_world_mm) @ TURN / AXES_MM) ** 2, axis=-1)
        return np.maximum(1 - r2, 0)

    pose = Placement(View.AP, grid.centre_world_mm, 800.0).camera_from_world(Motion(14, -9, 21, 2, -3, 10))
    return phantoms.scene_of(density, grid), pose


def weights_of(camera):
    """A ramp over the detector, so that no derivative of the weighted sum is small by symmetry."""
    width, height = camera.size_px
    v, u = np.mgrid[:height, :width]
    return 1 + u / width + 0.5 * v / height


def autograd_gradient(scene, backend, camera, pose):
    """By (sdd, du, dv, u0, v0, depth) of the weighted sum of pixels."""
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (camera.sdd_mm, camera.pixel_mm, camera.centre_px)]
    intrinsics = Intrinsics(*(number.requires_grad_() for number in numbers))
    poses = torch.tensor(pose[None], requires_grad=True)
    images = project(make_projector(scene, backend), camera, poses, intrinsics=intrinsics)
    (images[0, 0] * torch.from_numpy(weights_of(camera))).sum().backward()
    by_camera = [np.atleast_1d(number.grad.numpy()) for number in numbers]
    return np.concatenate([*by_camera, [float(poses.grad[0, 2, 3])]])


def central_differences(image_of, camera, pose):
    """The same six of an image function of a camera and a pose."""
    found = []
    for step in np.diag(STEPS):
        sums = []
        for sign in (1, -1):
            now = np.array([camera.sdd_mm, *camera.pixel_mm, *camera.centre_px]) + sign * step[:5]
            beside = dataclasses.replace(camera, sdd_mm=now[0], pixel_mm=tuple(now[1:3]), principal_px=tuple(now[3:]))
            shifted = pose.copy()
            shifted[2, 3] += sign * step[5]
            sums.append(np.sum(image_of(beside, shifted) * weights_of(camera)))
        found.append((sums[0] - sums[1]) / (2 * step.sum()))
    return np.array(found)


@pytest.mark.parametrize("backend", ["cpu", pytest.param("reference", marks=pytest.mark.slow)])
@pytest.mark.parametrize("beam", list(Beam))
def test_gradient_is_that_of_an_ellipsoids_closed_form(phantoms, ellipsoid, backend, beam):
    scene, pose = ellipsoid
    camera = dataclasses.replace(FINE, beam=beam)

    def closed_form(camera, pose):
        source, directions, _ = phantoms.rays_world(camera, pose)
        o, d = (source - scene.grid.centre_world_mm) @ TURN / AXES_MM, directions @ TURN / AXES_MM
        a, b, c = np.sum(d * d, axis=-1), np.sum(o * d, axis=-1), np.sum(o * o, axis=-1) - 1
        # The parabola -(a t^2 + 2 b t + c) between its roots.
        return 4 / 3 * np.maximum(b * b - a * c, 0) ** 1.5 / a**2

    found = autograd_gradient(scene, backend, camera, pose) * UNITS
    expected = central_differences(closed_form, camera, pose) * UNITS
    # The interpolated field's slope steps at every voxel of 1 mm: few rays would see too much of that.
    assert np.linalg.norm(found - expected) <= 0.01 * np.linalg.norm(expected)
    if beam is Beam.CONE:
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("beam", list(Beam))
def test_gradient_of_the_reference_is_its_own_central_difference(ellipsoid, beam):
    scene, pose = ellipsoid
    camera = dataclasses.replace(CAMERA, beam=beam)
    exact = ReferenceProjector(scene)
    found = autograd_gradient(scene, "reference", camera, pose) * UNITS
    expected = central_differences(lambda c, p: exact.image_float64(c, p)[0], camera, pose) * UNITS
    assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)
