"""What the CPU projector allocates beside its output and one copy of the volume."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid, Placement, View

_MB = 2**20


@pytest.fixture(scope="module")
def scene():
    grid = Grid((192, 192, 192), np.diag([1.0, 1.0, 1.0, 1.0]))
    return Scene(np.ones(grid.shape, np.float32), grid, None, ("all",), Quantity.ATTENUATION, "1")


def peak_bytes(call):
    """The peak of what is allocated during a call, and what it returns."""
    tracemalloc.start()
    result = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, result


def test_projector_holds_one_copy_of_the_volume(scene):
    CpuProjector(scene)
    peak, _ = peak_bytes(lambda: CpuProjector(scene))
    assert peak <= 1.15 * scene.values.nbytes + 16 * _MB


@pytest.mark.parametrize("threads", [1, 2])
def test_image_and_jacobian_take_little_beside_themselves(scene, threads):
    projector = CpuProjector(scene, threads=threads)
    camera = Camera(1020.0, (256, 256), (1.2, 1.2))
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world()
    peak, image = peak_bytes(lambda: projector.image(camera, pose))
    assert peak <= image.nbytes + 4 * _MB
    peak, pair = peak_bytes(lambda: projector.image_and_jacobian(camera, pose, np.zeros(3)))
    assert peak <= sum(part.nbytes for part in pair) + 4 * _MB
