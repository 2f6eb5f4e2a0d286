"""nanodrr as a backend: its renderer on our own values and rays, its derivatives from its own tape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.drr.marching import CHUNK_SAMPLES, samples_of_longest
from hierbmd.drr.rays import twist_jacobian
from hierbmd.drr.scene import Scene
from hierbmd.errors import MissingExtra
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix, Vector, invert_rigid, transform_points

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class NanoDrrProjector:
    """The `nanodrr.drr.render` function (Gopalakrishnan, 2025), torch, in float64, four samples a voxel.

    Its world is ours (LPS), its rays go from our sources to our pixels, for every beam, and each structure is a volume
    of its own: of its conventions of orientation, pixel centres, attenuation and labels none is met. Derivatives by the
    rays' ends come from torch's autograd, a backward pass a structure. Raises MissingExtra where nanodrr is not
    installed or cannot be imported.
    """

    scene: Scene
    backend: str = "nanodrr"

    def __post_init__(self) -> None:
        _imported()

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W) in the scene's unit. Raises RaysMissVolume, NotRigid."""
        return self._project(camera, camera_from_world, derivatives=False)[0].astype(np.float32)

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the twist of `rigid.moved` about the pivot."""
        image, ends = self._project(camera, camera_from_world, derivatives=True)
        ends_mm = (camera.source_points_mm(), camera.detector_points_mm())
        pivot_mm = transform_points(camera_from_world, pivot_world_mm)
        jacobian = twist_jacobian(ends[..., 0, :], ends[..., 1, :], ends_mm, pivot_mm)
        return image.astype(np.float32), jacobian.astype(np.float32)

    def image_and_ends(
        self, camera: Camera, camera_from_world: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 2, 3) by the rays' ends in camera mm."""
        image, ends = self._project(camera, camera_from_world, derivatives=True)
        return image.astype(np.float32), ends.astype(np.float32)

    def _project(
        self, camera: Camera, camera_from_world: Matrix, *, derivatives: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The images (S, H, W) and their derivatives by the rays' ends (S, H, W, 2, 3), zero unless asked for."""
        import torch

        samples = samples_of_longest(self.scene.grid, camera, camera_from_world)
        world_from_camera = torch.from_numpy(invert_rigid(camera_from_world))[None]
        rays = np.stack([camera.source_points_mm(), camera.detector_points_mm()]).reshape(2, -1, 3)
        images, ends = [], []
        for channel in range(len(self.scene.structures)):
            subject = self._subject(channel)
            parts = torch.from_numpy(rays).split(max(CHUNK_SAMPLES // samples, 1), dim=1)
            rows = [_render(subject, world_from_camera, part, samples, derivatives) for part in parts]
            images.append(torch.cat([row for row, _ in rows]).numpy())
            ends.append(torch.cat([by_ends for _, by_ends in rows], dim=1).numpy())
        width, height = camera.size_px
        shape = (len(images), height, width)
        return np.stack(images).reshape(shape), np.moveaxis(np.stack(ends), 1, 2).reshape(*shape, 2, 3)

    def _subject(self, channel: int) -> Any:
        import torch

        grid = self.scene.grid
        values = self.scene.channel_values(channel).astype(np.float64)
        data = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0)))[None, None]
        size = np.array(grid.shape, dtype=np.float64)
        unit_from_index = np.diag([*(2 / size), 1.0])
        unit_from_index[:3, 3] = 1 / size - 1
        matrices = [torch.from_numpy(m.copy()) for m in (grid.world_from_index, grid.index_from_world, unit_from_index)]
        centre = torch.from_numpy(grid.centre_world_mm)
        labels = torch.zeros_like(data)
        return _imported()[0](data, labels, *matrices, centre, max_label=0, convert_to_mu=False)


def _render(
    subject: Any, world_from_camera: torch.Tensor, rays: torch.Tensor, samples: int, derivatives: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The integrals (R,) of rays from sources to targets (2, R, 3) in camera mm, and their derivatives by these."""
    import torch

    ends = rays.clone().requires_grad_(derivatives)
    src, tgt = ends
    unused = torch.eye(3, dtype=torch.float64)[None]
    with torch.set_grad_enabled(derivatives):
        image = _imported()[1](
            subject, unused, world_from_camera, torch.ones(1), rays.shape[1], 1, samples,
            src=src[None], tgt=tgt[None], backend="torch",
        ).reshape(-1)  # fmt: skip
    if not derivatives:
        return image, torch.zeros_like(rays)
    (by_ends,) = torch.autograd.grad(image.sum(), ends)
    # Its pixel grows with the ray's length, ours by what the ray meets: `image_and_ends` holds the length.
    steps = rays[1] - rays[0]
    by_length = (image.detach() / (steps**2).sum(dim=-1))[:, None] * steps
    return image.detach(), by_ends - torch.stack([-by_length, by_length])


def _imported() -> tuple[Any, Any]:
    """nanodrr's Subject class and render function."""
    try:
        from nanodrr.data import Subject
        from nanodrr.drr import render
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(f"nanodrr cannot be imported ({error})", mend="pip install nanodrr==0.1.7") from None
    return Subject, render
