"""Scenes and cameras small enough to march slowly, and the helper modules of these tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid


def _helper(name):
    spec = importlib.util.spec_from_file_location(f"drr_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def twin():
    """The slow twin of the compiled kernels."""
    return _helper("joseph_twin")


@pytest.fixture(scope="session")
def phantoms():
    """Volumes with closed-form line integrals."""
    return _helper("phantoms")


@pytest.fixture(scope="session")
def blob_scene():
    """Two Gaussian blobs in three structures on an oblique, anisotropic, sheared grid, (20, 24, 18)."""
    index = np.stack(np.meshgrid(*map(np.arange, (20, 24, 18)), indexing="ij"), axis=-1)
    values = _gaussian(index, (9, 11, 8), (2.5, 3.5, 2.3)) + 0.5 * _gaussian(index, (12, 15, 10), (1.5, 1.5, 2.0))
    values[values < 1e-5] = 0
    channels = 1 + (index[..., 0] > 9).astype(np.uint8) + (index[..., 1] > 12)
    matrix = np.eye(4)
    shear = np.array([[1, 0.02, 0], [0, 1, 0.1], [0, 0, 1]])
    turn = Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix()
    matrix[:3, :3], matrix[:3, 3] = turn @ shear @ np.diag([2.0, 1.7, 3.0]), [-10, 5, 70]
    grid = Grid(values.shape, matrix)
    return Scene(values.astype(np.float32), grid, channels.astype(np.uint8), ("a", "b", "c"), Quantity.ATTENUATION, "1")


@pytest.fixture(scope="session")
def small_camera():
    """A coarse camera of 5 x 6 pixels that covers the blobs."""
    return Camera(1000.0, (5, 6), (13.0, 11.0), (1.7, 2.9))


def _gaussian(index, centre, sigma):
    return np.exp(-np.sum(((index - centre) / np.array(sigma)) ** 2, axis=-1) / 2)
