"""Kernels read from the cache are those that were compiled."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import sys
import numpy as np
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
values = np.random.default_rng(0).random((14, 12, 13), np.float32)
labels = (np.arange(values.size).reshape(values.shape) % 4).astype(np.uint8)
grid = Grid(values.shape, np.diag([2.0, 1.5, 3.0, 1.0]))
scene = Scene(values, grid, labels, ("a", "b", "c"), Quantity.ATTENUATION, "1")
pose = Placement(View.AP, grid.centre_world_mm, 700.0).camera_from_world(Motion(13, -22, 10, 3, 2, 1))
camera = Camera(1000.0, (40, 33), (1.1, 1.3))
image, jacobian = make_projector(scene, "cpu").image_and_jacobian(camera, pose, np.zeros(3))
np.savez(sys.argv[1], image=image, jacobian=jacobian)
"""


@pytest.mark.slow
def test_a_process_with_cached_kernels_has_the_bits_of_the_one_that_compiled_them(tmp_path):
    cache = tmp_path / "cache"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    found, kernels = [], []
    for name in ("cold.npz", "warm.npz"):
        command = [sys.executable, "-W", "error", "-c", CODE, str(tmp_path / name)]
        subprocess.run(command, env=environment, check=True)
        found.append(np.load(tmp_path / name))
        kernels.append({path: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")})
    assert kernels[0]
    assert kernels[0] == kernels[1], "the second process compiled again"
    for key in ("image", "jacobian"):
        assert np.any(found[0][key])
        assert np.array_equal(found[0][key], found[1][key])
