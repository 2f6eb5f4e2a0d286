"""Scenes and cameras small enough to march slowly."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid


@pytest.fixture(scope="session")
def blob_scene():
    """Two Gaussian blobs in three structures on an oblique, anisotropic grid, (20, 24, 18)."""
    index = np.stack(np.meshgrid(*map(np.arange, (20, 24, 18)), indexing="ij"), axis=-1)
    values = _gaussian(index, (9, 11, 8), (2.5, 3.5, 2.3)) + 0.5 * _gaussian(index, (12, 15, 10), (1.5, 1.5, 2.0))
    values[values < 1e-5] = 0
    channels = 1 + (index[..., 0] > 9).astype(np.uint8) + (index[..., 1] > 12)
    return Scene(
        values.astype(np.float32),
        oblique_grid(values.shape),
        channels.astype(np.uint8),
        ("a", "b", "c"),
        Quantity.ATTENUATION,
        "1",
    )


@pytest.fixture(scope="session")
def small_camera():
    """A coarse camera of 5 x 6 pixels that covers the blobs."""
    return Camera(1000.0, (5, 6), (13.0, 11.0), (1.7, 2.9))


def oblique_grid(shape):
    """A grid of 2.0 x 1.7 x 3.0 mm voxels whose axes are turned out of the patient's and a little sheared."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    shear = np.array([[1, 0.02, 0], [0, 1, 0.1], [0, 0, 1]])
    matrix[:3, :3] = (
        Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix() @ shear @ np.diag([2.0, 1.7, 3.0])
    )
    matrix[:3, 3] = [-10, 5, 70]
    return Grid(shape, matrix)


def _gaussian(index, centre, sigma):
    return np.exp(-np.sum(((index - centre) / np.array(sigma)) ** 2, axis=-1) / 2)
