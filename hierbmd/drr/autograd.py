"""The projector inside torch: projections whose gradient by the pose comes from the one-pass Jacobian."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from hierbmd.drr.projector import Projector
from hierbmd.geometry import Camera


def project(projector: Projector, camera: Camera, camera_from_world: torch.Tensor) -> torch.Tensor:
    """The projections of a batch of poses, differentiable in the pose.

    `camera_from_world` (B, 4, 4) is rigid; the result is (B, S, H, W) float32 on the poses' device. The gradient
    that returns to the matrix is its part along rigid motions: exact for every parametrisation that stays rigid.
    Raises RaysMissVolume, NotRigid.
    """
    return _Project.apply(camera_from_world, projector, camera)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, camera_from_world: torch.Tensor, projector: Projector, camera: Camera) -> torch.Tensor:
        poses = camera_from_world.detach().cpu().double().numpy()
        device = camera_from_world.device
        if not ctx.needs_input_grad[0]:
            images = np.stack([projector.image(camera, pose) for pose in poses])
            return torch.from_numpy(images).to(device)
        pivot = projector.scene.grid.centre_world_mm
        pairs = [projector.image_and_jacobian(camera, pose, pivot) for pose in poses]
        jacobian = torch.from_numpy(np.stack([jacobian for _, jacobian in pairs])).to(device)
        pivot_world_mm = torch.from_numpy(pivot).to(device)
        ctx.save_for_backward(camera_from_world, jacobian, pivot_world_mm)
        return torch.from_numpy(np.stack([image for image, _ in pairs])).to(device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        camera_from_world, jacobian, pivot_world_mm = ctx.saved_tensors
        by_twist = torch.einsum("bshw,bshwk->bk", grad.to(jacobian.dtype), jacobian).double()
        by_pose = _by_matrix(by_twist, camera_from_world.double(), pivot_world_mm)
        return by_pose.to(camera_from_world.dtype), None, None


def _by_matrix(by_twist: torch.Tensor, pose: torch.Tensor, pivot_world_mm: torch.Tensor) -> torch.Tensor:
    """The matrix (B, 4, 4) along rigid motions whose product with a motion's derivative is that by the twist (B, 6).

    The motion changes R by [w]R and the translation by w x (T - c) + t, c being the pivot in the camera frame. Of all
    G_R with <G_R, [w]R> = q . w the one along rigid motions is [q]R / 2, as <[q]R, [w]R> = 2 q . w.
    """
    rotation = pose[:, :3, :3]
    by_rotation, by_translation = by_twist[:, :3], by_twist[:, 3:]
    arm = -(rotation @ pivot_world_mm)
    q = by_rotation - torch.linalg.cross(arm, by_translation)
    out = torch.zeros_like(pose)
    out[:, :3, :3] = torch.linalg.cross(q[:, :, None].expand(-1, -1, 3), rotation, dim=1) / 2
    out[:, :3, 3] = by_translation
    return out
