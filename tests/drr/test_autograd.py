"""Gradients that torch sees, against central differences of the exact reference."""

from __future__ import annotations

import dataclasses
import gc
import os
import shutil
import weakref

import numpy as np
import pytest
import torch

from hierbmd.drr.autograd import project
from hierbmd.drr.autograd_volume import Structures, project_volumes
from hierbmd.drr.projector import make_projector
from hierbmd.drr.views import Intrinsics
from hierbmd.errors import BadConfig
from hierbmd.geometry import Motion, Placement, View


def skew(w):
    zero = torch.zeros((), dtype=w.dtype)
    rows = [torch.stack([zero, -w[2], w[1]]), torch.stack([w[2], zero, -w[0]]), torch.stack([-w[1], w[0], zero])]
    return torch.stack(rows)


def poses_from(parameters, starts):
    """exp of rotation vectors and translations (B, 6) of the patient in the world, then the start poses (B, 4, 4)."""
    out = []
    for six, start in zip(parameters, starts, strict=True):
        top = torch.cat([torch.matrix_exp(skew(six[:3])), six[3:, None]], dim=1)
        out.append(start @ torch.cat([top, torch.tensor([[0.0, 0, 0, 1]], dtype=six.dtype)]))
    return torch.stack(out)


@pytest.fixture
def starts(blob_scene):
    placement = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0)
    motions = (Motion(13, -22, 10, 3, 2, 1), Motion(-5, 12, 40, -3, 1, 30))
    return torch.from_numpy(np.stack([placement.camera_from_world(motion) for motion in motions]))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradient_by_the_poses_is_its_central_difference(blob_scene, small_camera, starts, backend, twin):
    projector = make_projector(blob_scene, backend)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 6, 5)))
    parameters = torch.tensor([[0.1, 0.05, -0.03, 3, 4, -2], [0.0, -0.1, 0.07, -2, 1, 3]], dtype=torch.float64)

    inputs = parameters.clone().requires_grad_()
    (project(projector, small_camera, poses_from(inputs, starts)) * weights).sum().backward()

    def loss(values):
        poses = poses_from(values, starts).numpy()
        if backend == "reference":
            images = [projector.image_float64(small_camera, pose) for pose in poses]
        else:
            images = [twin.joseph_image(blob_scene, small_camera, pose) for pose in poses]
        return float((torch.from_numpy(np.stack(images)) * weights).sum())

    for at in np.ndindex(2, 6):
        step = torch.zeros_like(parameters)
        step[at] = 1e-7 if at[1] < 3 else 1e-5
        by_difference = (loss(parameters + step) - loss(parameters - step)) / (2 * float(step[at]))
        assert float(inputs.grad[at]) == pytest.approx(
            by_difference, rel=1e-3, abs=1e-3 * float(inputs.grad.abs().min())
        )


def test_images_are_the_projectors(blob_scene, small_camera, starts):
    projector = make_projector(blob_scene)
    images = project(projector, small_camera, starts)
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 6, 5)
    for image, pose in zip(images.numpy(), starts.numpy(), strict=True):
        assert np.array_equal(image, projector.image(small_camera, pose))


def test_float32_poses_get_float32_gradients(blob_scene, small_camera, starts):
    poses = starts.float().requires_grad_()
    project(make_projector(blob_scene), small_camera, poses).sum().backward()
    assert poses.grad.dtype == torch.float32
    assert torch.all(torch.isfinite(poses.grad))


def test_gradient_descent_finds_the_pose(blob_scene, small_camera, starts):
    camera = dataclasses.replace(small_camera, size_px=(16, 16), pixel_mm=(4.5, 4.5), principal_px=None)
    projector = make_projector(blob_scene)
    target = project(projector, camera, starts[:1])
    parameters = torch.tensor([[0.03, -0.02, 0.02, 2.0, -1.5, 0.0]], dtype=torch.float64)
    parameters.requires_grad_()
    first = None
    optimizer = torch.optim.LBFGS([parameters], max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        nonlocal first
        optimizer.zero_grad()
        loss = ((project(projector, camera, poses_from(parameters, starts[:1])) - target) ** 2).sum()
        loss.backward()
        first = float(loss.detach()) if first is None else first
        return loss

    optimizer.step(closure)
    assert float(closure().detach()) < 0.02 * first


def test_nothing_kept_gives_the_gradients_of_everything_kept(blob_scene, small_camera, starts):
    projector = make_projector(blob_scene)
    found = []
    for recompute in (False, True):
        poses = starts.clone().requires_grad_()
        sdd_mm = torch.tensor(small_camera.sdd_mm, dtype=torch.float64, requires_grad=True)
        images = project(projector, small_camera, poses, intrinsics=Intrinsics(sdd_mm), recompute=recompute)
        images.square().sum().backward()
        found.append((poses.grad, sdd_mm.grad))
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(kept, again, rtol=1e-6, atol=0)


def _compiled_and_plain(projector, camera, starts, backend):
    def loss(poses):
        return (project(projector, camera, poses) * 2).square().sum()

    plain, compiled = starts.clone().requires_grad_(), starts.clone().requires_grad_()
    loss(plain).backward()
    torch.compile(loss, fullgraph=True, backend=backend)(compiled).backward()
    return plain.grad, compiled.grad


def test_compiled_whole_it_gives_the_same_gradients(blob_scene, small_camera, starts):
    plain, compiled = _compiled_and_plain(make_projector(blob_scene), small_camera, starts, "aot_eager")
    torch.testing.assert_close(plain, compiled)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_by_inductor_it_gives_the_same_gradients(blob_scene, small_camera, starts):
    plain, compiled = _compiled_and_plain(make_projector(blob_scene), small_camera, starts, "inductor")
    torch.testing.assert_close(plain, compiled)


def test_a_projector_that_is_dropped_is_gone(blob_scene, small_camera, starts):
    projector = make_projector(blob_scene)
    project(projector, small_camera, starts)
    alive = weakref.ref(projector)
    del projector
    gc.collect()
    assert alive() is None


def test_volumes_with_a_pose_each_project_as_their_scenes_do(blob_scene, small_camera, starts):
    values = torch.from_numpy(np.stack([blob_scene.values, blob_scene.values[::-1].copy()]))
    structures = Structures(torch.from_numpy(blob_scene.channels), len(blob_scene.structures))
    images = project_volumes(values, blob_scene.grid, small_camera, starts, structures=structures)
    for image, volume, pose in zip(images.numpy(), values.numpy(), starts.numpy(), strict=True):
        scene = dataclasses.replace(blob_scene, values=volume)
        assert np.array_equal(image, make_projector(scene).image(small_camera, pose))


def test_volumes_that_do_not_fit_are_refused(blob_scene, small_camera, starts):
    values = torch.zeros(3, *blob_scene.values.shape)
    with pytest.raises(BadConfig, match="3 volumes on 1 grids for 2 poses"):
        project_volumes(values, blob_scene.grid, small_camera, starts)
    with pytest.raises(BadConfig, match="do not fit the grid"):
        project_volumes(torch.zeros(2, 2, 2), blob_scene.grid, small_camera, starts)
