"""The transpose of the projector: dot products, its slow twin, and what backprojection must not get wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.drr.adjoint import backproject
from hierbmd.drr.cpu import CpuProjector
from hierbmd.errors import NotRigid, RaysMissVolume
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, View
from hierbmd.rigid import rigid_matrix


def noise_scene(scene, *, several, seed=0):
    """The scene's grid and structures with noise in every voxel."""
    values = np.random.default_rng(seed).normal(size=scene.values.shape).astype(np.float32)
    if several:
        return dataclasses.replace(scene, values=values)
    return dataclasses.replace(scene, values=values, channels=None, structures=("all",))


def noise_images(scene, camera, seed=1):
    shape = (len(scene.structures), camera.size_px[1], camera.size_px[0])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dot(a, b):
    return float(np.vdot(a.astype(np.float64), b.astype(np.float64)))


@pytest.fixture(scope="module")
def camera():
    """A fine camera whose outermost rays miss the blobs' grid."""
    return Camera(1000.0, (37, 70), (3.0, 2.0), (15.3, 33.9))


@pytest.mark.parametrize(
    "source_isocentre_mm", [700.0, 5.0, 990.0], ids=["outside", "source inside", "detector inside"]
)
@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("several", [False, True], ids=["one structure", "three structures"])
def test_dot_products_agree(twin, blob_scene, camera, view, beam, several, source_isocentre_mm):
    scene, camera = noise_scene(blob_scene, several=several), dataclasses.replace(camera, beam=beam)
    pose = Placement(view, scene.grid.centre_world_mm, source_isocentre_mm).camera_from_world(Motion(13, -22, 10))
    weights = noise_images(scene, camera)
    image = CpuProjector(scene).image(camera, pose)
    back = backproject(weights, scene.grid, camera, pose, channels=scene.channels)
    scale = np.linalg.norm(image.astype(np.float64)) * np.linalg.norm(weights.astype(np.float64))
    assert abs(dot(image, weights) - dot(scene.values, back)) <= 1e-6 * scale
    # With weights that follow the image nothing cancels.
    along = backproject(image, scene.grid, camera, pose, channels=scene.channels)
    assert dot(scene.values, along) == pytest.approx(dot(image, image), rel=1e-5)
    expected = twin.joseph_backprojection(weights, scene.grid, camera, pose, scene.channels)
    assert back.dtype == np.float32
    assert np.linalg.norm(back - expected) <= 2e-6 * np.linalg.norm(expected)


def test_rays_between_two_axes_step_along_the_same_in_both_directions(blob_scene, camera):
    # A parallel beam along (1, 1, 0.4) on a grid along the patient's axes: every ray is as steep along x as along y.
    along, across = np.array([1, 1, 0.4]) / np.sqrt(2.16), np.array([1, -1, 0]) / np.sqrt(2)
    rotation = np.stack([across, np.cross(along, across), along])
    for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
        matrix = np.eye(4)
        matrix[:3, :3] = np.eye(3)[:, order]
        grid = Grid((13, 12, 11), matrix)
        values = np.random.default_rng(2).normal(size=grid.shape).astype(np.float32)
        scene = dataclasses.replace(blob_scene, values=values, grid=grid, channels=None, structures=("all",))
        beside = dataclasses.replace(camera, beam=Beam.PARALLEL, pixel_mm=(0.5, 0.4))
        pose = rigid_matrix(rotation, np.array([0, 0, 500]) - rotation @ grid.centre_world_mm)
        image = CpuProjector(scene).image(beside, pose)
        assert dot(values, backproject(image, grid, beside, pose)) == pytest.approx(dot(image, image), rel=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_threads_do_not_change_a_bit(blob_scene, camera, several):
    scene = noise_scene(blob_scene, several=several)
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(40, 44, 10))
    weights = noise_images(scene, camera)
    one, many = (
        backproject(weights, scene.grid, camera, pose, channels=scene.channels, threads=threads) for threads in (1, 3)
    )
    assert np.array_equal(one, many)


def test_backprojection_into_a_volume_is_added_to_it(blob_scene, camera):
    scene = noise_scene(blob_scene, several=False)
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world()
    weights = noise_images(scene, camera)
    back = backproject(weights, scene.grid, camera, pose)
    into = np.full(scene.grid.shape, 7.0, np.float32)
    assert backproject(weights, scene.grid, camera, pose, into=into) is into
    assert into == pytest.approx(back + 7.0, abs=1e-5 * float(np.abs(back).max()))


def test_background_gets_nothing_and_zero_voxels_their_share(blob_scene, camera):
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    channels = np.where(blob_scene.channels == 2, 0, blob_scene.channels)
    ones = np.ones((3, camera.size_px[1], camera.size_px[0]), np.float32)
    back = backproject(ones, blob_scene.grid, camera, pose, channels=channels)
    assert not back[channels == 0].any()
    assert (back[(channels > 0) & (blob_scene.values == 0)] > 0).mean() > 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("view", list(View))
def test_one_voxel_thick_volume(twin, blob_scene, axis, view):
    shape = [9, 9, 9]
    shape[axis] = 1
    matrix = np.diag([5.0, 5.0, 5.0, 1.0])
    matrix[:3, 3] = -5.0 * (np.array(shape) - 1) / 2
    grid = Grid(tuple(shape), matrix)
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    scene = dataclasses.replace(blob_scene, values=values, grid=grid, channels=None, structures=("all",))
    camera = Camera(1000.0, (6, 7), (5.0, 5.0))
    pose = Placement(view, np.zeros(3), 900.0).camera_from_world(Motion(0.3, 0.2, 0.1))
    image = CpuProjector(scene).image(camera, pose)
    back = backproject(image, grid, camera, pose)
    assert dot(values, back) == pytest.approx(dot(image, image), rel=1e-5)
    expected = twin.joseph_backprojection(image, grid, camera, pose)
    # Edge on, rays graze the slab: 1e-6 voxel of rounding in the place is 1e-6 of a tap.
    assert np.abs(back - expected).max() <= 1e-5 * np.abs(expected).max()


def test_rays_that_miss_are_refused(blob_scene, camera):
    scene = noise_scene(blob_scene, several=False)
    pose = Placement(View.AP, scene.grid.centre_world_mm, -300.0).camera_from_world()
    with pytest.raises(RaysMissVolume, match="behind the source"):
        backproject(noise_images(scene, camera), scene.grid, camera, pose)


def test_pose_that_reflects_is_refused(blob_scene, camera):
    scene = noise_scene(blob_scene, several=False)
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world()
    with pytest.raises(NotRigid, match="determinant -1"):
        backproject(noise_images(scene, camera), scene.grid, camera, np.diag([-1.0, 1, 1, 1]) @ pose)


def test_arrays_that_do_not_fit_are_refused(blob_scene, camera):
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    good = noise_images(blob_scene, camera)
    for images, options, words in (
        (good[:, 1:], {"channels": blob_scene.channels}, "are not"),
        (good, {}, "need channels"),
        (good[:1], {"channels": blob_scene.channels}, "name structure 3 of 1"),
        (good, {"channels": blob_scene.channels[1:]}, "do not fit"),
        (good[:1], {"into": np.zeros(blob_scene.grid.shape)}, "into is float64"),
    ):
        with pytest.raises(ValueError, match=words):
            backproject(images, blob_scene.grid, camera, pose, **options)
