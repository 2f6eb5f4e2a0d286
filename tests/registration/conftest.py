"""A bone in closed form (Gaussian blobs under a cone beam) and a small made-up pelvis, for tests of registration."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import RaysMissVolume
from hierbmd.geometry import Camera, Grid, Placement, View
from hierbmd.registration.body import Body
from hierbmd.rigid import transform_points


@dataclass(frozen=True)
class BlobProjector:
    """Exact line integrals of Gaussian blobs: amplitude s sqrt(2 pi) exp(-d^2 / (2 s^2)), d from ray to centre."""

    centres_world_mm: np.ndarray
    sigmas_mm: np.ndarray
    amplitudes: np.ndarray
    backend: str = "closed form"
    scene: object = field(default=None)

    def image(self, camera: Camera, pose):
        return self.image_and_jacobian(camera, pose, np.zeros(3))[0]

    def image_and_jacobian(self, camera: Camera, pose, pivot_world_mm):
        centres = transform_points(pose, self.centres_world_mm)
        if np.any(centres[:, 2] <= 0):
            raise RaysMissVolume("behind the source")
        sources = camera.source_points_mm()
        rays = camera.detector_points_mm() - sources
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        pivot = transform_points(pose, np.asarray(pivot_world_mm, dtype=float))
        image = np.zeros(rays.shape[:2])
        jacobian = np.zeros((*rays.shape[:2], 6))
        for centre, sigma, amplitude in zip(centres, self.sigmas_mm, self.amplitudes, strict=True):
            away = centre - sources
            offset = away - np.sum(away * rays, axis=-1, keepdims=True) * rays
            value = amplitude * sigma * np.sqrt(2 * np.pi) * np.exp(-np.sum(offset**2, -1) / (2 * sigma**2))
            by_centre = -value[..., None] * offset / sigma**2
            image += value
            jacobian[..., 3:] += by_centre
            jacobian[..., :3] += np.cross(centre - pivot, by_centre)
        return image[None].astype(np.float32), jacobian[None].astype(np.float32)


def _blob_body(name="blob", seed=0, n=14, centre=(0.0, 0.0, 0.0), spread_mm=32.0):
    rng = np.random.default_rng(seed)
    centres = np.asarray(centre) + rng.uniform(-spread_mm, spread_mm, (n, 3))
    projector = BlobProjector(centres, rng.uniform(4.0, 9.0, n), rng.uniform(0.01, 0.03, n))
    return Body(name, projector, False, centres.mean(axis=0), centres, np.zeros((0, 3)), 0)


@pytest.fixture
def blob_body():
    """A maker of bodies of Gaussian blobs with exact projections: blob_body(name, seed=, n=, centre=, spread_mm=)."""
    return _blob_body


@pytest.fixture
def camera() -> Camera:
    """96 x 80 pixels of 3 mm, 1 m from the source."""
    return Camera(1000.0, (96, 80), (3.0, 3.0))


@pytest.fixture
def start() -> np.ndarray:
    """The AP pose with the origin 850 mm from the source."""
    return Placement(View.AP, np.zeros(3), 850.0).camera_from_world()


def _shell(points, centre, radii, thickness):
    outer = np.sum(((points - centre) / radii) ** 2, axis=-1)
    inner = np.sum(((points - centre) / (np.asarray(radii) - thickness)) ** 2, axis=-1)
    return outer <= 1, inner <= 1


@pytest.fixture(scope="session")
def small_pelvis() -> tuple[Volume, LabelMap]:
    """Two bones in soft tissue, 3 mm voxels: a "hip" (two shells) and a "femur" (head, trochanter and shaft)."""
    shape, spacing = (64, 44, 64), 3.0
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = [-94.5, -64.5, -94.5]
    grid = Grid(shape, matrix)
    points = transform_points(matrix, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float))
    hu = np.where(np.hypot(points[..., 0] / 90, points[..., 1] / 60) < 1, 45.0, -1000.0)
    ids = np.zeros(shape, np.uint8)
    parts = [
        (77, (18, 10, 40), (34, 14, 34)),
        (77, (-8, -12, -8), (14, 20, 30)),
        (75, (34, 0, -18), (17, 17, 17)),
        (75, (48, 4, -38), (11, 11, 26)),
        (75, (52, 4, -66), (12, 12, 40)),
    ]
    for identifier, centre, radii in parts:
        outer, inner = _shell(points, np.array(centre, float), np.array(radii, float), 4.0)
        free = outer & ((ids == 0) | (ids == identifier))
        hu[free & (ids == 0)] = 900.0
        hu[free & inner] = 220.0
        ids[free] = identifier
    hu += np.random.default_rng(3).normal(0, 12, shape)
    scheme = {"femur_left": 75, "hip_left": 77}
    return Volume(hu.astype(np.float32), grid), LabelMap(ids, grid, scheme)


@pytest.fixture(scope="session")
def torso(bench, shared_data):
    """The torso CT of the shared data with its labels, as the benchmark reads it."""
    assert shared_data.is_dir()
    return bench("torso_trials").read_torso()
