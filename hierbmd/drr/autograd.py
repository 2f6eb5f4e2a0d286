"""The projector inside torch: projections of a fixed volume, differentiable in poses and intrinsics.

Custom operators, so that `torch.compile` takes them whole. An operator is handed numbers and tensors only: a projector
goes in as its number in a registry that does not keep it alive.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import numpy as np
import torch

from hierbmd.drr.projector import Projector
from hierbmd.drr.rays import require_rays_meet
from hierbmd.drr.views import (
    Intrinsics,
    gradient_by_views,
    join_views,
    moments_of_ends,
    ones_by_length,
    split_view,
    with_one_camera,
)
from hierbmd.geometry import Camera


@runtime_checkable
class _BatchProjector(Projector, Protocol):
    """A projector that takes all poses of one camera at once, as tensors, and keeps nothing: `cuda`."""

    def images(self, camera: Camera, poses: torch.Tensor) -> torch.Tensor:
        """The projections (B, S, H, W)."""

    def moments(
        self, camera: Camera, poses: torch.Tensor, weights: torch.Tensor, *, trusted: bool = False
    ) -> torch.Tensor:
        """The moments (B, 2, 3, 3) of `views.moments_of_ends` for weights (B, S, H, W) of the pixels."""


_NUMBERS = itertools.count()
_PROJECTORS: WeakValueDictionary[int, Projector] = WeakValueDictionary()


def project(
    projector: Projector,
    camera: Camera,
    camera_from_world: torch.Tensor,
    *,
    intrinsics: Intrinsics | None = None,
    recompute: bool = False,
) -> torch.Tensor:
    """The projections of a batch of poses, differentiable in the poses and in the intrinsics, once.

    `camera_from_world` (B, 4, 4) is rigid; the result is (B, S, H, W) float32 on the poses' device. The gradient
    that returns to the matrix is its part along rigid motions: exact for every parametrisation that stays rigid.
    `intrinsics` take the place of the camera's numbers; size and beam are the camera's.

    Where a gradient is asked for, six numbers a pixel are kept until backward. With `recompute` nothing is kept, and
    backward projects again, pose by pose: the time of the forward pass once more, the memory of one pose. The cuda
    backend never keeps them. Under `torch.compile` each projector is compiled for once. Raises RaysMissVolume,
    NotRigid, BadConfig, GeometryMissing.
    """
    views = join_views(camera, camera_from_world, intrinsics)
    width, height = camera.size_px
    shape = [len(projector.scene.structures), height, width]
    keep = views.requires_grad and torch.is_grad_enabled() and not recompute and projector.backend != "cuda"
    images, _ = _project(views, _number_of(projector), shape, camera.beam.value, keep)
    return images if intrinsics is None else images * ones_by_length(views, camera.size_px, camera.beam.value)


@torch.compiler.assume_constant_result
def _number_of(projector: Projector) -> int:
    """The projector's number; under `torch.compile` a constant, guarded by which object the projector is."""
    for number, known in _PROJECTORS.items():
        if known is projector:
            return number
    number = next(_NUMBERS)
    _PROJECTORS[number] = projector
    return number


def _projector(number: int) -> Projector:
    projector = _PROJECTORS.get(number)
    if projector is None:
        raise ReferenceError("the projector of this projection is gone: keep it until backward is done")
    return projector


def project_views(
    projector: Projector, views: torch.Tensor, size_px: tuple[int, int], beam: str, keep: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, S, H, W) of views (B, 21) and, with `keep`, their derivatives by the rays' ends (B, S, H, W, 2, 3)."""
    shape = (len(views), len(projector.scene.structures), size_px[1], size_px[0])
    images = np.empty(shape, np.float32)
    ends = np.empty((*shape, 2, 3) if keep else 0, np.float32)
    for index, view in enumerate(views.cpu()):
        if keep:
            images[index], ends[index] = projector.image_and_ends(*split_view(view, size_px, beam))
        else:
            images[index] = projector.image(*split_view(view, size_px, beam))
    return torch.from_numpy(images).to(views.device), torch.from_numpy(ends).to(views.device)


def moments_of_views(projector: Projector, grad: torch.Tensor, views: torch.Tensor, beam: str) -> torch.Tensor:
    """The moments (B, 2, 3, 3) of `grad` (B, S, H, W), projected again one by one."""
    moments = views.new_empty((len(views), 2, 3, 3))
    for index, (part, view) in enumerate(zip(grad.split(1), views.split(1), strict=True)):
        _, ends = project_views(projector, view, (grad.shape[3], grad.shape[2]), beam, True)
        moments[index] = moments_of_ends(part, ends, view)[0]
    return moments


def fake_projections(views: torch.Tensor, shape: Sequence[int], keep: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Tensors like those of `project_views`, without values; `shape` is (S, H, W)."""
    images = views.new_empty((len(views), *shape), dtype=torch.float32)
    return images, views.new_empty((*images.shape, 2, 3) if keep else (0,), dtype=torch.float32)


@torch.library.custom_op("hierbmd::project", mutates_args=())
def _project(
    views: torch.Tensor, number: int, shape: Sequence[int], beam: str, keep: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    projector, size_px = _projector(number), (shape[2], shape[1])
    if not isinstance(projector, _BatchProjector):
        return project_views(projector, views, size_px, beam, keep)
    images, ends = fake_projections(views, shape, keep)
    for mine, camera, poses in with_one_camera(views, size_px, beam):
        images[mine] = projector.images(camera, poses).to(views.device)
    for index in (~images.flatten(1).any(dim=1)).nonzero().flatten().tolist():
        require_rays_meet(projector.scene.grid, *split_view(views[index], size_px, beam))
    return images, ends


@_project.register_fake
def _(
    views: torch.Tensor, number: int, shape: Sequence[int], beam: str, keep: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    return fake_projections(views, shape, keep)


@torch.library.custom_op("hierbmd::project_backward", mutates_args=())
def _project_backward(
    grad: torch.Tensor, ends: torch.Tensor, views: torch.Tensor, number: int, beam: str
) -> torch.Tensor:
    if len(ends) == len(views):
        return gradient_by_views(moments_of_ends(grad, ends, views), views, beam)
    projector = _projector(number)
    if not isinstance(projector, _BatchProjector):
        return gradient_by_views(moments_of_views(projector, grad, views, beam), views, beam)
    moments = views.new_empty((len(views), 2, 3, 3))
    for mine, camera, poses in with_one_camera(views, (grad.shape[3], grad.shape[2]), beam):
        moments[mine] = projector.moments(camera, poses, grad[mine], trusted=True).to(views.device)
    return gradient_by_views(moments, views, beam)


@_project_backward.register_fake
def _(grad: torch.Tensor, ends: torch.Tensor, views: torch.Tensor, number: int, beam: str) -> torch.Tensor:
    return torch.empty_like(views)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    views, ctx.number, _, ctx.beam, _ = inputs
    # Held here so that a tape outlives the caller's own reference.
    ctx.projector = _PROJECTORS.get(ctx.number)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(views, output[1])


def _backward(ctx: Any, grad: torch.Tensor | None, _: None) -> tuple[torch.Tensor | None, None, None, None, None]:
    views, ends = ctx.saved_tensors
    by_views = None if grad is None else _project_backward(grad, ends, views, ctx.number, ctx.beam)
    return by_views, None, None, None, None


_project.register_autograd(_backward, setup_context=_keep_for_backward)
