"""DiffDRR as a backend: its trilinear renderer on our own values and rays, never its own reader's rescaling."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.drr.marching import CHUNK_SAMPLES, interval_of_all, samples_between
from hierbmd.drr.scene import Scene
from hierbmd.errors import BadConfig, MissingExtra
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix, Vector, invert_rigid, moved, transform_points

if TYPE_CHECKING:
    import torch

_STEP_RAD, _STEP_MM = 2e-3, 0.2


@dataclass(frozen=True)
class DiffDrrProjector:
    """The `diffdrr.drr.DRR` module (Gopalakrishnan and Golland, 2022), trilinear, in float64, four samples a voxel.

    Its rays go from our source to our pixels and its affine is ours, so none of its conventions of orientation is met.
    Each structure is a volume of its own: its label channels are by nearest neighbour, which is another field. The
    Jacobian is by central differences of 2 mrad and 0.2 mm, beyond the noise of its sampling. Raises MissingExtra where
    diffdrr is not installed or cannot be imported.
    """

    scene: Scene
    backend: str = "diffdrr"

    def __post_init__(self) -> None:
        _import_drr()

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W) in the scene's unit. Raises RaysMissVolume, NotRigid."""
        return self._image(camera, camera_from_world).astype(np.float32)

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the twist of `rigid.moved` about the pivot."""
        columns = []
        for six in range(6):
            step = _STEP_RAD if six < 3 else _STEP_MM
            twist = np.eye(6)[six] * step
            ahead, behind = (
                self._image(camera, moved(camera_from_world, sign * twist, pivot_world_mm)) for sign in (1, -1)
            )
            columns.append((ahead - behind) / (2 * step))
        return self.image(camera, camera_from_world), np.stack(columns, axis=-1).astype(np.float32)

    def image_and_ends(
        self, camera: Camera, camera_from_world: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Not to be had from DiffDRR without its own tape: BadConfig."""
        raise BadConfig("diffdrr gives no derivative by the rays' ends", mend="use the cpu or reference backend")

    def _image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float64]:
        import torch

        between = interval_of_all(self.scene.grid, camera, camera_from_world)
        samples = samples_between(self.scene.grid, camera, camera_from_world, between)
        world_from_camera = invert_rigid(camera_from_world)
        ends = (camera.source_points_mm(), camera.detector_points_mm())
        source, targets = (torch.from_numpy(transform_points(world_from_camera, mm).reshape(1, -1, 3)) for mm in ends)
        images = []
        for channel in range(len(self.scene.structures)):
            drr = self._module(channel, camera)
            parts = (ends.split(max(CHUNK_SAMPLES // samples, 1), dim=1) for ends in (source, targets))
            rows = [_render(drr, part, samples, between) for part in zip(*parts, strict=True)]
            images.append(torch.cat(rows, dim=1)[0].numpy())
        return np.stack(images).reshape(len(images), camera.size_px[1], camera.size_px[0])

    def _module(self, channel: int, camera: Camera) -> Any:
        import torch

        density = torch.from_numpy(self.scene.channel_values(channel).astype(np.float64))[None]
        subject = SimpleNamespace(
            volume=SimpleNamespace(affine=self.scene.grid.world_from_index.copy()),
            density=SimpleNamespace(data=density),
            mask=None,
            reorient=torch.eye(4),
        )
        width, height = camera.size_px
        drr = _import_drr().DRR(
            subject, camera.sdd_mm, height, camera.pixel_mm[0], width, camera.pixel_mm[1], renderer="trilinear"
        )
        # The module rounds its affine to float32: ours is put back.
        affine = torch.from_numpy(self.scene.grid.world_from_index.copy())[None]
        drr._affine, drr._affine_inverse = affine, affine.inverse()
        return drr


def _render(
    drr: Any, ends: tuple[torch.Tensor, torch.Tensor], samples: int, between: tuple[float, float]
) -> torch.Tensor:
    """The integrals (1, R) of rays from sources to targets (1, R, 3), in LPS mm."""
    import torch

    with torch.no_grad():
        low, high = (torch.tensor(t, dtype=torch.float64) for t in between)
        image: torch.Tensor = drr.render(drr.density, *ends, n_points=samples, alphamin=low, alphamax=high)
    return image[:, 0]


def _import_drr() -> Any:
    try:
        from diffdrr import drr
    except (ImportError, RuntimeError) as error:
        # A torchvision that does not fit torch raises RuntimeError.
        raise MissingExtra(
            f"diffdrr cannot be imported ({error})", mend="pip install --no-deps diffdrr==0.6.1 fastcore torchio roma"
        ) from None
    return drr
