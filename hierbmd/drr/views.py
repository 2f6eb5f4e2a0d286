"""Poses and intrinsics as one tensor, and how a loss on images moves them through the rays' ends.

A batch of views is (B, 21) float64: a row holds camera_from_world, row by row, then sdd_mm, du, dv (mm), u0, v0 (px).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from hierbmd.errors import BadConfig, NotRigid
from hierbmd.geometry import Beam, Camera
from hierbmd.rigid import Matrix

COLUMNS = 21
_POSE = 16


class Intrinsics(NamedTuple):
    """A camera's numbers as tensors, one for all poses or one a pose; None means the camera's own.

    `sdd_mm` () or (B,); `pixel_mm` (2,) or (B, 2) as (du, dv); `principal_px` (2,) or (B, 2) as (u0, v0).
    """

    sdd_mm: torch.Tensor | None = None
    pixel_mm: torch.Tensor | None = None
    principal_px: torch.Tensor | None = None


def join_views(camera: Camera, camera_from_world: torch.Tensor, intrinsics: Intrinsics | None) -> torch.Tensor:
    """The views (B, 21) of poses (B, 4, 4) and a camera, differentiable; NotRigid, BadConfig for other shapes."""
    if camera_from_world.ndim != 3 or camera_from_world.shape[1:] != (4, 4):
        raise NotRigid(f"poses are (B, 4, 4), not {tuple(camera_from_world.shape)}", mend="stack them")
    given = intrinsics or Intrinsics()
    count = camera_from_world.shape[0]
    columns = [camera_from_world.double().reshape(count, _POSE)]
    own = ((camera.sdd_mm,), camera.pixel_mm, camera.centre_px)
    for name, value, default in zip(Intrinsics._fields, given, own, strict=True):
        width = len(default)
        if value is None:
            column = torch.tensor(default, dtype=torch.float64)
        else:
            column = value.double().unsqueeze(-1) if width == 1 else value.double()
        if column.ndim > 2 or column.shape[-1] != width or (column.ndim == 2 and column.shape[0] not in (1, count)):
            raise BadConfig(f"{name} {tuple(column.shape)} for {count} poses", mend="one for all, or one a pose")
        columns.append(column.to(camera_from_world.device).expand(count, width))
    return torch.cat(columns, dim=1)


def split_view(view: torch.Tensor, size_px: tuple[int, int], beam: str) -> tuple[Camera, Matrix]:
    """The camera and the pose of one row; GeometryMissing for numbers that make no camera."""
    numbers = view.cpu().numpy()
    sdd_mm, du, dv, u0, v0 = (float(number) for number in numbers[_POSE:])
    return Camera(sdd_mm, size_px, (du, dv), (u0, v0), Beam(beam)), numbers[:_POSE].reshape(4, 4)


def ones_by_length(views: torch.Tensor, size_px: tuple[int, int], beam: str) -> torch.Tensor:
    """Ones (B, 1, H, W) float32 whose derivative by the intrinsics is that of the logarithm of the rays' lengths.

    The derivatives by a ray's ends say how the field along the ray changes, each step keeping its mm; a rigid motion
    needs no more. Intrinsics make the ray longer or shorter as well: times these ones, an image has that, too.
    """
    width, height = size_px
    sdd, du, dv, u0, v0 = (views[:, column, None, None] for column in range(_POSE, COLUMNS))
    across, down = (float(fans) for fans in Beam(beam).fans)
    x = across * du * (torch.arange(width, device=views.device) - u0)
    y = down * dv * (torch.arange(height, device=views.device)[:, None] - v0)
    length_mm = torch.sqrt(x * x + y * y + sdd * sdd)
    return (length_mm / length_mm.detach()).float().unsqueeze(1)


def with_one_camera(
    views: torch.Tensor, size_px: tuple[int, int], beam: str
) -> Iterator[tuple[torch.Tensor, Camera, torch.Tensor]]:
    """The rows of views that share a camera: their indices, the camera and their poses (N, 4, 4)."""
    distinct, which = torch.unique(views[:, _POSE:].cpu(), dim=0, return_inverse=True)
    for number in range(len(distinct)):
        mine = (which == number).nonzero().flatten().to(views.device)
        camera, _ = split_view(views[mine[0]], size_px, beam)
        yield mine, camera, views[mine, :_POSE].reshape(-1, 4, 4)


def moments_of_ends(grad: torch.Tensor, ends: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
    """The moments (B, 2, 3, 3) float64 of a loss with gradient `grad` (B, S, H, W) by the images.

    `ends` (B, S, H, W, 2, 3) are the images' derivatives g by the rays' ends in camera mm, the patient at rest. Entry
    (b, end, i, k) is the sum over structures and pixels of grad * g_i * (x_mm, y_mm, 1)_k at the pixel. Rows are summed
    in float32, what they add up to in float64; nothing as large as `ends` is made.
    """
    count, structures, height, width = grad.shape
    u = torch.arange(width, dtype=torch.float32, device=grad.device) - (width - 1) / 2
    v = torch.arange(height, dtype=torch.float64, device=grad.device) - (height - 1) / 2
    weights = torch.stack([grad, grad * u], dim=3).reshape(-1, 2, width)
    rows = torch.bmm(weights, ends.reshape(-1, width, 6)).reshape(count, structures, height, 2, 2, 3)
    rows = rows.double().sum(dim=1)
    total, by_u = rows.sum(dim=1).unbind(dim=1)
    by_v = (rows[:, :, 0] * v[:, None, None]).sum(dim=1)
    du, dv, u0, v0 = (views[:, column, None, None] for column in range(_POSE + 1, COLUMNS))
    by_x = du * (by_u + ((width - 1) / 2 - u0) * total)
    by_y = dv * (by_v + ((height - 1) / 2 - v0) * total)
    return torch.stack([by_x, by_y, total], dim=-1)


def gradient_by_views(moments: torch.Tensor, views: torch.Tensor, beam: str) -> torch.Tensor:
    """The gradient (B, 21) by the views from `moments_of_ends`: both ends of a ray are linear in its pixel's place."""
    pose, (sdd, du, dv, _, _) = views[:, :_POSE].reshape(-1, 4, 4), views[:, _POSE:].unbind(dim=1)
    moves = views.new_tensor([[not fans for fans in Beam(beam).fans], [True, True]])
    # What the ends' x and y follow of the pixel's, summed over both ends: along (x_mm, y_mm) and at rest.
    along = (moments[..., :2] * moves[:, None, :]).sum(dim=1)
    at_rest = (moments[:, :, :2, 2] * moves).sum(dim=1)
    by_x, by_y, by_z = along[..., 0], along[..., 1], sdd[:, None] * moments[:, 1, :, 2]
    # Moving the patient by w x X + t moves the ends by its opposite.
    by_turn = -torch.stack([by_y[:, 2] - by_z[:, 1], by_z[:, 0] - by_x[:, 2], by_x[:, 1] - by_y[:, 0]], dim=1)
    by_shift = -moments[..., 2].sum(dim=1)
    by_camera = (moments[:, 1, 2, 2], by_x[:, 0] / du, by_y[:, 1] / dv, -du * at_rest[:, 0], -dv * at_rest[:, 1])
    return torch.cat([_by_matrix(by_turn, by_shift, pose).reshape(-1, _POSE), torch.stack(by_camera, dim=1)], dim=1)


def _by_matrix(by_turn: torch.Tensor, by_shift: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """The matrix (B, 4, 4) along rigid motions whose product with a motion's derivative is that by the twist.

    The motion, about the camera's origin, changes R by [w]R and the translation T by w x T + t. Of all G_R with
    <G_R, [w]R> = q . w the one along rigid motions is [q]R / 2, as <[q]R, [w]R> = 2 q . w.
    """
    rotation, translation = pose[:, :3, :3], pose[:, :3, 3]
    q = by_turn - torch.linalg.cross(translation, by_shift)
    out = torch.zeros_like(pose)
    out[:, :3, :3] = torch.linalg.cross(q[:, :, None].expand(-1, -1, 3), rotation, dim=1) / 2
    out[:, :3, 3] = by_shift
    return out
