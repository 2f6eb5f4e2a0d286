"""The compiled kernels against their slow twin in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.pack import pack
from hierbmd.drr.projector import make_projector
from hierbmd.drr.rays import twist_jacobian
from hierbmd.geometry import Beam, Grid, Motion, Placement, View
from hierbmd.rigid import transform_points


@pytest.mark.parametrize(
    "source_isocentre_mm", [700.0, 5.0, 990.0], ids=["outside", "source inside", "detector inside"]
)
@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("several", [False, True], ids=["one structure", "three structures"])
def test_image_and_jacobian_are_the_twins(twin, blob_scene, small_camera, view, beam, several, source_isocentre_mm):
    camera = dataclasses.replace(small_camera, beam=beam)
    scene = blob_scene if several else dataclasses.replace(blob_scene, channels=None, structures=("all",))
    placement = Placement(view, scene.grid.centre_world_mm, source_isocentre_mm)
    pose = placement.camera_from_world(Motion(13, -22, 10, 3, 2, 1))
    pivot = scene.grid.centre_world_mm + np.array([3, 4, 5])

    image, jacobian = CpuProjector(scene).image_and_jacobian(camera, pose, pivot)

    expected = twin.joseph_image(scene, camera, pose)
    assert image == pytest.approx(expected, abs=2e-6 * expected.max())
    by_difference = twin.joseph_jacobian(scene, camera, pose, pivot)
    for six in range(6):
        scale = np.linalg.norm(by_difference[..., six])
        # Depth moves nothing in a parallel beam: zero is told from rounding by the size of the other five.
        rounding = 1e-7 * np.linalg.norm(jacobian)
        assert np.linalg.norm(jacobian[..., six] - by_difference[..., six]) <= 1e-4 * scale + rounding


@pytest.mark.parametrize("source_isocentre_mm", [700.0, 5.0, 990.0])
@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_derivative_by_the_ends_gives_that_by_the_pose(blob_scene, small_camera, beam, backend, source_isocentre_mm):
    camera = dataclasses.replace(small_camera, beam=beam)
    placement = Placement(View.AP, blob_scene.grid.centre_world_mm, source_isocentre_mm)
    pose = placement.camera_from_world(Motion(13, -22, 10, 3, 2, 1))
    pivot = blob_scene.grid.centre_world_mm + np.array([3, 4, 5])
    projector = make_projector(blob_scene, backend)
    image, jacobian = projector.image_and_jacobian(camera, pose, pivot)
    beside, ends = projector.image_and_ends(camera, pose)
    assert np.array_equal(image, beside)
    ends_mm = (camera.source_points_mm(), camera.detector_points_mm())
    by_ends = twist_jacobian(ends[..., 0, :], ends[..., 1, :], ends_mm, transform_points(pose, pivot))
    assert np.linalg.norm(by_ends - jacobian) <= 1e-5 * np.linalg.norm(jacobian)


def test_image_alone_is_the_image_beside_the_jacobian(blob_scene, small_camera):
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    projector = CpuProjector(blob_scene)
    beside, _ = projector.image_and_jacobian(small_camera, pose, np.zeros(3))
    assert np.array_equal(projector.image(small_camera, pose), beside)


def test_threads_do_not_change_a_bit(blob_scene, small_camera):
    pose = Placement(View.LAT, blob_scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(3, 4, 5))
    camera = dataclasses.replace(small_camera, size_px=(7, 40), pixel_mm=(9, 2), principal_px=None)
    one, many = (CpuProjector(blob_scene, threads=n).image(camera, pose) for n in (1, 3))
    assert np.array_equal(one, many)


def test_structures_far_apart_have_boxes_of_their_own_and_the_same_images(twin, blob_scene, small_camera):
    index = np.indices(blob_scene.values.shape)
    channels = np.where(np.all(index < 8, axis=0), 1, np.where(np.all(index > 10, axis=0), 2, 0)).astype(np.uint8)
    values = blob_scene.values + np.float32(0.1)
    scene = dataclasses.replace(blob_scene, values=values, channels=channels, structures=("near", "far"))
    assert [packed.structures for packed in pack(scene)] == [slice(0, 1), slice(1, 2)]
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(13, -22, 10, 3, 2, 1))
    expected = twin.joseph_image(scene, small_camera, pose)
    assert CpuProjector(scene).image(small_camera, pose) == pytest.approx(expected, abs=2e-6 * float(expected.max()))


def test_empty_blocks_are_skipped_without_a_trace(twin, blob_scene, small_camera):
    sparse = np.zeros((90, 70, 60), np.float32)
    sparse[2, 3, 4] = sparse[88, 60, 50] = sparse[40, 40, 2] = 1.0
    matrix = blob_scene.grid.world_from_index @ np.diag([0.3, 0.3, 0.3, 1.0])
    scene = dataclasses.replace(
        blob_scene, values=sparse, grid=Grid(sparse.shape, matrix), channels=None, structures=("all",)
    )
    camera = dataclasses.replace(small_camera, size_px=(40, 40), pixel_mm=(2.0, 2.0), principal_px=None)
    for view in View:
        pose = Placement(view, scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(1, -2, 10))
        expected = twin.joseph_image(scene, camera, pose)
        image = CpuProjector(scene).image(camera, pose)
        assert np.count_nonzero(expected) > 0
        assert image == pytest.approx(expected, abs=3e-5 * float(expected.max()))


def test_rays_along_the_patient_take_the_path_without_neighbours(twin, blob_scene, small_camera):
    scene = dataclasses.replace(blob_scene, channels=None, structures=("all",))
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(80, 5, 3))
    pivot = scene.grid.centre_world_mm
    image, jacobian = CpuProjector(scene).image_and_jacobian(small_camera, pose, pivot)
    expected = twin.joseph_image(scene, small_camera, pose)
    assert image == pytest.approx(expected, abs=2e-6 * float(expected.max()))
    by_difference = twin.joseph_jacobian(scene, small_camera, pose, pivot)
    assert np.linalg.norm(jacobian - by_difference) <= 1e-4 * np.linalg.norm(by_difference)
