"""Gradients of the float32 path by pose, intrinsics and values, against central differences of the float64 twin.

Joseph's sum has kinks where a ray crosses a plane at a voxel centre, and steps where its steepest axis changes: the
differences are over 1e-7 of a unit, so that hardly a ray gets over one. Where a ray lies within float32's rounding of a
kink, 1e-5 voxel, both slopes are right and the twin's may be the other one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hierbmd.drr.autograd_volume import project_volumes
from hierbmd.drr.rays import index_from_camera
from hierbmd.drr.views import Intrinsics
from hierbmd.geometry import Beam, Camera, Grid
from hierbmd.rigid import moved, rigid_matrix, transform_points

STEP = 1e-7


@dataclasses.dataclass
class Case:
    """A volume of noise, its grid, a camera of few pixels that sees it, a pose, and weights of the pixels."""

    values: np.ndarray
    grid: Grid
    camera: Camera
    pose: np.ndarray
    weights: np.ndarray

    @property
    def radius_mm(self):
        return float(np.linalg.norm(self.grid.spacing_mm * (np.array(self.grid.shape) + 1)) / 2)


def random_case(seed):
    """Any rotation, a sheared grid of 1 to 9 voxels a side, any beam; one time in eight an end inside the volume."""
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.integers(1, 10, size=3))
    matrix = np.eye(4)
    shear = np.eye(3) + np.triu(random.uniform(-0.1, 0.1, size=(3, 3)), 1)
    turn = Rotation.random(random_state=int(random.integers(1 << 31))).as_matrix()
    matrix[:3, :3] = turn @ shear @ np.diag(random.uniform(2.0, 8.0, size=3))
    matrix[:3, 3] = random.uniform(-200, 200, size=3)
    grid = Grid(shape, matrix)
    sdd_mm = random.uniform(700, 1500)
    depth_mm = random.choice([random.uniform(0.5, 0.9) * sdd_mm, 4.0, sdd_mm - 4.0], p=[7 / 8, 1 / 16, 1 / 16])
    rotation = Rotation.random(random_state=int(random.integers(1 << 31))).as_matrix()
    # Well within the smallest volume, which the narrow end of a cone of rays would miss else.
    aside_mm = min(5.0, 0.3 * float(np.min(grid.spacing_mm)))
    shift = np.array([*random.uniform(-aside_mm, aside_mm, size=2), depth_mm])
    pose = rigid_matrix(rotation, shift - rotation @ grid.centre_world_mm)
    across_mm = 25.0 * sdd_mm / max(depth_mm, 0.5 * sdd_mm)
    beam = list(Beam)[random.integers(3)]
    pixel_mm, principal_px = tuple(random.uniform(0.5, 1, 2) * across_mm / 5), tuple(random.uniform(1.5, 3, 2))
    camera = Camera(sdd_mm, (5, 6), pixel_mm, principal_px, beam)
    values = random.uniform(0, 1, size=shape).astype(np.float32)
    return Case(values, grid, camera, pose, random.uniform(0.2, 1, size=(6, 5)))


def gradients(case):
    """By the twist about the grid's centre (6), by (sdd, du, dv, u0, v0) and by the values, as autograd has them."""
    camera = case.camera
    pose = torch.tensor(case.pose[None], requires_grad=True)
    values = torch.tensor(case.values, requires_grad=True)
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (camera.sdd_mm, camera.pixel_mm, camera.centre_px)]
    intrinsics = Intrinsics(*(number.requires_grad_() for number in numbers))
    images = project_volumes(values, case.grid, camera, pose, intrinsics=intrinsics)
    (images[0, 0] * torch.from_numpy(case.weights)).sum().backward()
    by_pose = pose.grad[0].numpy()
    moves = [moved(case.pose, twist, case.grid.centre_world_mm) for twist in np.eye(6) * 1e-6]
    backs = [moved(case.pose, -twist, case.grid.centre_world_mm) for twist in np.eye(6) * 1e-6]
    by_twist = [np.sum(by_pose * (ahead - behind)) / 2e-6 for ahead, behind in zip(moves, backs, strict=True)]
    by_camera = np.concatenate([np.atleast_1d(number.grad.numpy()) for number in numbers])
    return np.array(by_twist), by_camera, values.grad.numpy()


def differences(twin, case):
    """The same of the twin, all rays of all steps in one march; by the values the transpose, in float64."""
    camera, pivot = case.camera, case.grid.centre_world_mm
    numbers = np.array([camera.sdd_mm, *camera.pixel_mm, *camera.centre_px])
    views = []
    for step in np.eye(6) * STEP:
        views += [(camera, moved(case.pose, sign * step, pivot)) for sign in (1, -1)]
    for step in np.eye(5) * STEP:
        for sign in (1, -1):
            sdd, du, dv, u0, v0 = numbers + sign * step
            beside = dataclasses.replace(camera, sdd_mm=sdd, pixel_mm=(du, dv), principal_px=(u0, v0))
            views.append((beside, case.pose))
    matrices = [index_from_camera(case.grid, pose) for _, pose in views]
    sources = np.stack([transform_points(m, c.source_points_mm()) for m, (c, _) in zip(matrices, views, strict=True)])
    ends = np.stack([transform_points(m, c.detector_points_mm()) for m, (c, _) in zip(matrices, views, strict=True)])
    lengths = np.stack([view.ray_lengths_mm() for view, _ in views])
    losses = np.sum(twin.line_integrals(case.values, sources, ends - sources) * lengths * case.weights, axis=(1, 2))
    by = (losses[::2] - losses[1::2]) / (2 * STEP)
    back = twin.joseph_backprojection(case.weights[None], case.grid, camera, case.pose)
    return by[:6], by[6:], back


def errors(twin, case):
    """The relative error in norm of the three, each in mm: of the volume's rim, of the detector's."""
    radius, camera = case.radius_mm, case.camera
    du, dv = camera.pixel_mm
    mm = (np.array([1 / radius] * 3 + [1] * 3), np.array([1, 1 / 3, 1 / 3, 1 / du, 1 / dv]), 1.0)
    pairs = zip(gradients(case), differences(twin, case), mm, strict=True)
    return [np.linalg.norm((ours - theirs) * unit) / np.linalg.norm(theirs * unit) for ours, theirs, unit in pairs]


def assert_gradients_are_differences(twin, seeds):
    found = np.array([errors(twin, random_case(seed)) for seed in seeds])
    for name, column in zip(("pose", "intrinsics", "values"), found.T, strict=True):
        assert np.max(column) <= 1e-3, f"{name}: {np.max(column):.2g} at seed {seeds[int(np.argmax(column))]}"


def test_gradients_of_random_poses_and_volumes_are_central_differences(twin):
    assert_gradients_are_differences(twin, range(150))


@pytest.mark.slow
def test_gradients_of_a_thousand_random_poses_and_volumes_are_central_differences(twin):
    assert_gradients_are_differences(twin, range(1000))
