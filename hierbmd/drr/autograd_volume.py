"""Projections of volumes that are tensors themselves: differentiable in the voxels' values, poses and intrinsics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hierbmd.drr.adjoint import backproject
from hierbmd.drr.autograd import fake_projections, moments_of_views, project_views
from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.scene import MAX_STRUCTURES, Quantity, Scene
from hierbmd.drr.views import Intrinsics, gradient_by_views, join_views, moments_of_ends, ones_by_length, split_view
from hierbmd.errors import BadConfig
from hierbmd.geometry import Camera, Grid


class Structures(NamedTuple):
    """Hard labels of volumes: `channels` (ni, nj, nk) or (V, ni, nj, nk) uint8 as in `Scene`, and how many there are.

    A voxel with n is in the n-th of `number` images, one with 0 in none.
    """

    channels: torch.Tensor
    number: int


def project_volumes(
    values: torch.Tensor,
    grid: Grid | Sequence[Grid],
    camera: Camera,
    camera_from_world: torch.Tensor,
    *,
    intrinsics: Intrinsics | None = None,
    structures: Structures | None = None,
    recompute: bool = False,
) -> torch.Tensor:
    """Projections (B, S, H, W) float32 of volumes, differentiable in values, poses and intrinsics, once.

    `values` are pixel units per mm of ray: (ni, nj, nk), or (V, ni, nj, nk) with V = 1, one volume for all poses, or
    V = B, a pose each; or (V, S, ni, nj, nk), S soft structures each. With `structures`, hard labels, S is their
    count; else it is 1. `grid` is one for all volumes or one a volume. Poses (B, 4, 4), `intrinsics` and `recompute`
    are those of `project`; the images are on the poses' device. The gradient by the values is exact for what is
    computed, Joseph's sum (`backproject`), and reaches voxels that are zero. Projected and backprojected by the CPU.
    Raises RaysMissVolume, NotRigid, BadConfig, GeometryMissing.
    """
    grids = [grid] if isinstance(grid, Grid) else list(grid)
    batch, soft = _batched(values, grids, camera_from_world.shape[0], structures)
    views = join_views(camera, camera_from_world, intrinsics).repeat_interleave(soft, dim=0)
    affines = torch.from_numpy(np.stack([one.world_from_index for one in grids])).repeat_interleave(soft, dim=0)
    channels = _channels(structures, batch)
    width, height = camera.size_px
    shape = [structures.number if structures else 1, height, width]
    keep = views.requires_grad and torch.is_grad_enabled() and not recompute
    images, _ = _project(batch, channels, views, affines, shape, camera.beam.value, keep)
    if intrinsics is not None:
        images = images * ones_by_length(views, camera.size_px, camera.beam.value)
    return images.reshape(-1, soft * shape[0], height, width)


def _batched(
    values: torch.Tensor, grids: Sequence[Grid], poses: int, structures: Structures | None
) -> tuple[torch.Tensor, int]:
    """The values as (V * S, ni, nj, nk) float32, and S, the number of soft structures."""
    batch = values[None] if values.ndim == 3 else values
    if batch.ndim not in (4, 5) or (batch.ndim == 5 and structures is not None):
        raise BadConfig(
            f"values {tuple(values.shape)}", mend="(ni, nj, nk), (V, ni, nj, nk) or soft (V, S, ni, nj, nk)"
        )
    if batch.shape[0] not in (1, poses) or len(grids) not in (1, batch.shape[0]):
        raise BadConfig(
            f"{batch.shape[0]} volumes on {len(grids)} grids for {poses} poses", mend="one, or as many each"
        )
    for grid in grids:
        if tuple(batch.shape[-3:]) != grid.shape:
            raise BadConfig(f"values {tuple(values.shape)} do not fit the grid {grid.shape}")
    soft = batch.shape[1] if batch.ndim == 5 else 1
    return batch.float().reshape(-1, *batch.shape[-3:]), soft


def _channels(structures: Structures | None, batch: torch.Tensor) -> torch.Tensor:
    """The labels (1 or V, ni, nj, nk); none without structures."""
    if structures is None:
        return torch.empty(0, dtype=torch.uint8)
    channels, count = structures
    channels = channels[None] if channels.ndim == 3 else channels
    if channels.dtype != torch.uint8 or not 1 <= count <= MAX_STRUCTURES:
        raise BadConfig(f"{count} structures in {channels.dtype}", mend=f"uint8, 1 to {MAX_STRUCTURES}")
    if channels.shape[0] not in (1, len(batch)) or channels.shape[1:] != batch.shape[1:]:
        raise BadConfig(f"channels {tuple(channels.shape)} do not fit values {tuple(batch.shape)}")
    return channels


class _Volumes(NamedTuple):
    """What an operator gets: values (V, ni, nj, nk), channels (0 or 1 or V, ...), world_from_index (1 or V, 4, 4)."""

    values: torch.Tensor
    channels: torch.Tensor
    world_from_index: torch.Tensor

    def grid(self, volume: int) -> Grid:
        matrix = self.world_from_index[volume % len(self.world_from_index)].cpu().numpy()
        ni, nj, nk = self.values.shape[1:]
        return Grid((ni, nj, nk), matrix)

    def labels(self, volume: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        if len(self.channels) == 0:
            return None
        return np.ascontiguousarray(self.channels[volume % len(self.channels)].cpu().numpy())

    def projectors(self, structures: int) -> Iterator[tuple[slice, CpuProjector]]:
        """Each volume's projector, made when its turn comes, and the views that are its: every V-th."""
        names = tuple(str(number) for number in range(1, structures + 1))
        for volume, values in enumerate(self.values):
            voxels = np.ascontiguousarray(values.cpu().numpy())
            scene = Scene(voxels, self.grid(volume), self.labels(volume), names, Quantity.ATTENUATION, "1")
            yield slice(volume, None, len(self.values)), CpuProjector(scene)


@torch.library.custom_op("hierbmd::project_volumes", mutates_args=())
def _project(
    values: torch.Tensor,
    channels: torch.Tensor,
    views: torch.Tensor,
    world_from_index: torch.Tensor,
    shape: Sequence[int],
    beam: str,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    images, ends = fake_projections(views, shape, keep)
    for mine, projector in _Volumes(values, channels, world_from_index).projectors(shape[0]):
        image, kept = project_views(projector, views[mine], (shape[2], shape[1]), beam, keep)
        images[mine] = image
        if keep:
            ends[mine] = kept
    return images, ends


@_project.register_fake
def _(
    values: torch.Tensor,
    channels: torch.Tensor,
    views: torch.Tensor,
    world_from_index: torch.Tensor,
    shape: Sequence[int],
    beam: str,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    return fake_projections(views, shape, keep)


@torch.library.custom_op("hierbmd::project_volumes_backward_views", mutates_args=())
def _backward_views(
    grad: torch.Tensor,
    ends: torch.Tensor,
    values: torch.Tensor,
    channels: torch.Tensor,
    views: torch.Tensor,
    world_from_index: torch.Tensor,
    beam: str,
) -> torch.Tensor:
    if len(ends) == len(views):
        return gradient_by_views(moments_of_ends(grad, ends, views), views, beam)
    moments = views.new_empty((len(views), 2, 3, 3))
    for mine, projector in _Volumes(values, channels, world_from_index).projectors(grad.shape[1]):
        moments[mine] = moments_of_views(projector, grad[mine], views[mine], beam)
    return gradient_by_views(moments, views, beam)


@_backward_views.register_fake
def _(
    grad: torch.Tensor,
    ends: torch.Tensor,
    values: torch.Tensor,
    channels: torch.Tensor,
    views: torch.Tensor,
    world_from_index: torch.Tensor,
    beam: str,
) -> torch.Tensor:
    return torch.empty_like(views)


@torch.library.custom_op("hierbmd::project_volumes_backward_values", mutates_args=())
def _backward_values(
    grad: torch.Tensor,
    channels: torch.Tensor,
    views: torch.Tensor,
    world_from_index: torch.Tensor,
    shape: Sequence[int],
    beam: str,
) -> torch.Tensor:
    out = torch.zeros(list(shape), dtype=torch.float32)
    volumes = _Volumes(out, channels, world_from_index)
    size_px = (grad.shape[3], grad.shape[2])
    for index, (images, view) in enumerate(zip(grad.cpu().numpy(), views.cpu(), strict=True)):
        volume = index % len(out)
        camera, pose = split_view(view, size_px, beam)
        labels, into = volumes.labels(volume), out[volume].numpy()
        backproject(images, volumes.grid(volume), camera, pose, channels=labels, into=into)
    return out


@_backward_values.register_fake
def _(
    grad: torch.Tensor,
    channels: torch.Tensor,
    views: torch.Tensor,
    world_from_index: torch.Tensor,
    shape: Sequence[int],
    beam: str,
) -> torch.Tensor:
    return torch.empty(list(shape), dtype=torch.float32)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    values, channels, views, world_from_index, _, ctx.beam, keep = inputs
    ctx.shape, ctx.device = list(values.shape), values.device
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    # The values are asked for again only where the views' gradient is computed anew.
    again = views.requires_grad and not keep
    ctx.save_for_backward(values if again else values.new_empty(0), channels, views, world_from_index, output[1])


def _backward(ctx: Any, grad: torch.Tensor | None, _: None) -> tuple[torch.Tensor | None, ...]:
    values, channels, views, world_from_index, ends = ctx.saved_tensors
    by_values = by_views = None
    if grad is not None and ctx.needs_input_grad[0]:
        by_values = _backward_values(grad, channels, views, world_from_index, ctx.shape, ctx.beam).to(ctx.device)
    if grad is not None and ctx.needs_input_grad[2]:
        by_views = _backward_views(grad, ends, values, channels, views, world_from_index, ctx.beam)
    return by_values, None, by_views, None, None, None, None


_project.register_autograd(_backward, setup_context=_keep_for_backward)
