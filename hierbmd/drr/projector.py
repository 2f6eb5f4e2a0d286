"""One interface to every backend that projects a scene."""

from __future__ import annotations

from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from hierbmd.drr.options import Backend
from hierbmd.drr.scene import Scene
from hierbmd.errors import BadConfig, MissingExtra
from hierbmd.geometry import Camera
from hierbmd.rigid import Matrix, Vector


class Projector(Protocol):
    """Projects one scene; every image is in the scene's unit, every structure an image of its own."""

    @property
    def scene(self) -> Scene:
        """What is projected."""

    @property
    def backend(self) -> str:
        """The backend's name."""

    def image(self, camera: Camera, camera_from_world: Matrix) -> NDArray[np.float32]:
        """The projection (S, H, W): the integral of the zero-padded trilinear field from source to pixel.

        Raises RaysMissVolume when no ray meets the volume, NotRigid for a pose that is not rigid or reflects.
        """

    def image_and_jacobian(
        self, camera: Camera, camera_from_world: Matrix, pivot_world_mm: Vector
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 6) by the pose.

        The six are the twist of `rigid.moved` at zero: radians about camera x, y, z through the pivot, then mm along
        them.
        """

    def image_and_ends(
        self, camera: Camera, camera_from_world: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The projection (S, H, W) and its derivative (S, H, W, 2, 3) by the rays' ends, per mm in camera axes.

        First by where the source is, then by where the pixel is, the patient at rest. Pose and intrinsics alike move
        these two points, and their derivatives follow from these.
        """


def make_projector(scene: Scene, backend: str = "auto") -> Projector:
    """The projector of a scene; BadConfig for a backend that does not exist, MissingExtra for one not installed.

    "auto" is "cpu": "cuda" has run in Triton's interpreter only, never on a GPU, and is taken when it is asked for.
    """
    if backend == "cuda":
        return _cuda_projector(scene)
    if backend in ("auto", "cpu"):
        from hierbmd.drr.cpu import CpuProjector

        return CpuProjector(scene)
    if backend == "reference":
        from hierbmd.drr.reference import ReferenceProjector

        return ReferenceProjector(scene)
    if backend == "diffdrr":
        from hierbmd.drr.diffdrr import DiffDrrProjector

        return DiffDrrProjector(scene)
    if backend == "nanodrr":
        from hierbmd.drr.nanodrr import NanoDrrProjector

        return NanoDrrProjector(scene)
    raise BadConfig(f"no backend {backend!r}", mend="one of " + ", ".join(get_args(Backend)))


def _cuda_projector(scene: Scene) -> Projector:
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"triton cannot be imported ({error})", mend="install torch for CUDA, which brings it, or use --backend cpu"
        ) from None
    from hierbmd.drr.cuda import CudaProjector

    return CudaProjector(scene)
