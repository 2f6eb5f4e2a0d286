"""The projector for CUDA GPUs: one Triton kernel for poses, rays, image and derivative; the volume stays on the device.

The method is the CPU projector's (`triton_rays`, `triton_march`, `triton_kernel`); they agree to rounding. Triton
comes with every CUDA build of torch: there is nothing more to install. Without a GPU, TRITON_INTERPRET=1 in the
environment runs the kernel in Triton's interpreter on the CPU: for tests, slowly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from hierbmd.drr.rays import require_rays_meet
from hierbmd.drr.scene import Scene
from hierbmd.drr.triton_field import Packed, pack
from hierbmd.drr.triton_kernel import ENDS, IMAGE, MOMENTS, TWIST, project
from hierbmd.drr.triton_rays import ACROSS, ALONG
from hierbmd.errors import BadConfig, NotRigid
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix, Vector, require_rigid

_RIGID_TOLERANCE = 1e-4
_FULL_GPU_PROGRAMS = 1024
"""From this many tiles on, 4096 warps, a GPU of some 100 multiprocessors is full with four planes at a time."""


def cuda_is_usable() -> bool:
    """Whether torch sees a GPU that this process may use: a forked child of a process that uses one may not."""
    return torch.cuda.is_available() and not torch.cuda._is_in_bad_fork()


def _device() -> torch.device:
    if cuda_is_usable():
        return torch.device("cuda", torch.cuda.current_device())
    if triton.knobs.runtime.interpret:
        return torch.device("cpu")
    raise BadConfig(f"no CUDA device: torch {torch.__version__} sees none", mend="use --backend cpu")


@dataclass(frozen=True)
class CudaProjector:
    """Joseph's method in float32 on one GPU; holds the part of the volume that is not zero on `device`.

    Batches of poses are (B, 4, 4) tensors, `camera_from_world`, on any device; results are float32 on `device`. They
    are checked to be rigid (NotRigid), for which the host waits for the device, unless `trusted`. A pose whose rays
    all miss the volume gives zeros; only the methods for one pose raise RaysMissVolume.
    """

    scene: Scene
    device: torch.device = field(default_factory=_device)
    backend: str = "cuda"
    _packed: Packed = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_packed", pack(self.scene, self.device))

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W) in the scene's unit. Raises RaysMissVolume, NotRigid."""
        images = self.images(camera, _one(camera_from_world), trusted=True)
        return self._met(images, camera, camera_from_world)

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the twist of `rigid.moved` about the pivot."""
        images, jacobians = self.images_and_jacobians(camera, _one(camera_from_world), pivot_world_mm, trusted=True)
        return self._met(images, camera, camera_from_world), jacobians[0].contiguous().cpu().numpy()

    def image_and_ends(
        self, camera: Camera, camera_from_world: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 2, 3) by the rays' ends in camera mm."""
        images, ends = self.images_and_ends(camera, _one(camera_from_world), trusted=True)
        return self._met(images, camera, camera_from_world), ends[0].contiguous().cpu().numpy()

    def images(self, camera: Camera, poses: torch.Tensor, *, trusted: bool = False) -> torch.Tensor:
        """The projections (B, S, H, W) of a batch of poses."""
        images = self._empty(camera, len(poses))
        self._launch(IMAGE.value, camera, self._poses(poses, trusted), images, images)
        return images

    def images_and_jacobians(
        self, camera: Camera, poses: torch.Tensor, pivot_world_mm: Vector, *, trusted: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The projections (B, S, H, W) and their derivatives (B, S, H, W, 6) by the twist of `rigid.moved`.

        In memory the six are six images, one after the other: the tensor of derivatives is a view of these.
        """
        images, six = self._empty(camera, len(poses)), self._empty(camera, len(poses), 6)
        pivot = tuple(float(x) for x in pivot_world_mm)
        self._launch(TWIST.value, camera, self._poses(poses, trusted), images, six, pivot)
        return images, six.movedim(2, -1)

    def images_and_ends(
        self, camera: Camera, poses: torch.Tensor, *, trusted: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The projections (B, S, H, W) and their derivatives (B, S, H, W, 2, 3) by the rays' ends in camera mm.

        First by where the source is, then by where the pixel is, the patient at rest; a view, as the Jacobians are.
        """
        images, six = self._empty(camera, len(poses)), self._empty(camera, len(poses), 6)
        self._launch(ENDS.value, camera, self._poses(poses, trusted), images, six)
        return images, six.movedim(2, -1).unflatten(-1, (2, 3))

    def moments(
        self, camera: Camera, poses: torch.Tensor, weights: torch.Tensor, *, trusted: bool = False
    ) -> torch.Tensor:
        """The vector-Jacobian product in one pass that stores no Jacobian: float64 (B, 2, 3, 3).

        With `weights` (B, S, H, W) of the pixels and g the derivative by a ray's end (source, pixel) in camera mm, the
        entry (b, end, i, k) is the sum over structures and pixels of weight * g_i * (x_mm, y_mm, 1)_k at the pixel:
        what `views.gradient_by_views` makes the gradient by the pose and by a camera's intrinsics of.
        """
        poses = self._poses(poses, trusted)
        weights = weights.to(self.device, torch.float32).contiguous()
        expected = (len(poses), len(self.scene.structures), camera.size_px[1], camera.size_px[0])
        if weights.shape != expected:
            raise ValueError(f"weights {tuple(weights.shape)}, not {expected}")
        shares = torch.empty(len(poses), self._groups, _tiles(camera), 18, device=self.device)
        self._launch(MOMENTS.value, camera, poses, weights, shares)
        return shares.sum(dim=(1, 2), dtype=torch.float64).view(-1, 2, 3, 3)

    @property
    def _groups(self) -> int:
        return -(-len(self.scene.structures) // self._packed.group)

    def _empty(self, camera: Camera, poses: int, each: int | None = None) -> torch.Tensor:
        width, height = camera.size_px
        inner = (height, width) if each is None else (each, height, width)
        return torch.empty(poses, len(self.scene.structures), *inner, device=self.device)

    def _poses(self, poses: torch.Tensor, trusted: bool) -> torch.Tensor:
        if poses.ndim != 3 or poses.shape[1:] != (4, 4):
            raise NotRigid(f"poses are (B, 4, 4), not {tuple(poses.shape)}", mend="give camera_from_world")
        poses = poses.detach().to(self.device, torch.float64).contiguous()
        if not trusted:
            _require_rigid(poses)
        return poses

    def _launch(
        self,
        mode: int,
        camera: Camera,
        poses: torch.Tensor,
        image: torch.Tensor,
        out: torch.Tensor,
        pivot_world_mm: tuple[float, ...] = (0.0, 0.0, 0.0),
    ) -> None:
        if not len(poses):
            return
        tiles = _tiles(camera)
        planes = _planes_at_once(len(poses) * tiles * self._groups)
        size = (len(poses), len(self.scene.structures), camera.size_px[1], camera.size_px[0])
        project[(len(poses) * tiles, self._groups)](
            self._packed.field,
            _numbers(camera, pivot_world_mm, self.device),
            poses,
            size,
            image,
            out,
            **launch_options(mode, self._packed, planes),
        )

    def _met(self, images: torch.Tensor, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        image: NDArray[np.float32] = images[0].cpu().numpy()
        if not image.any():
            require_rays_meet(self.scene.grid, camera, camera_from_world)
        return image


def _one(camera_from_world: Matrix) -> torch.Tensor:
    return torch.from_numpy(np.array(require_rigid(camera_from_world)))[None]


def _require_rigid(poses: torch.Tensor) -> None:
    rotation = poses[:, :3, :3]
    unit = (rotation @ rotation.mT - torch.eye(3, device=poses.device, dtype=poses.dtype)).abs().amax(dim=(1, 2))
    last_row = (poses[:, 3] - poses.new_tensor([0, 0, 0, 1])).abs().amax(dim=1)
    determinant = torch.linalg.det(rotation)
    # Written so that a matrix with NaN is refused, too.
    bad = ~((unit < _RIGID_TOLERANCE) & (determinant > 0) & (last_row < 1e-9) & poses.isfinite().all(dim=(1, 2)))
    if bad.any():
        first = int(bad.nonzero()[0])
        raise NotRigid(
            f"pose {first} is not rigid: determinant {float(determinant[first]):.4g}",
            mend="rotation and translation only, no flip, no scale",
        )


def _tiles(camera: Camera) -> int:
    """How many tiles cover an image, whichever of its axes they lie along."""
    width, height = camera.size_px
    along, across = ALONG.value, ACROSS.value
    return max(-(-width // along) * -(-height // across), -(-height // along) * -(-width // across))


def _planes_at_once(programs: int) -> int:
    """How many planes of its rays a program takes at a time: more, the fewer programs there are to fill a GPU."""
    for planes in (4, 8):
        if programs * planes >= 4 * _FULL_GPU_PROGRAMS:
            return planes
    return 16


def launch_options(mode: int, packed: Packed, planes: int) -> dict[str, int]:
    """The kernel's constants, its warps, and the most registers of a thread.

    Many warps on a multiprocessor are how a GPU hides what memory costs. What these registers have no room for is
    written before the walk and read after it: within its loop nothing is (`benchmarks/gpu_counts.py`).
    """
    group = packed.group
    registers = 64 if group == 1 else 96 if mode == IMAGE.value else 128
    constants = {"MODE": mode, "GROUP": group, "LABEL_BITS": packed.label_bits, "K": planes}
    return {**constants, "num_warps": planes, "maxnreg": registers}


@lru_cache(maxsize=64)
def _numbers(camera: Camera, pivot_world_mm: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """What the kernel knows of a camera, float64 on the device."""
    moves = [float(not fans) for fans in camera.beam.fans]
    numbers = [*camera.pixel_mm, *camera.centre_px, camera.sdd_mm, *moves, *pivot_world_mm]
    return torch.tensor(numbers, dtype=torch.float64, device=device)
