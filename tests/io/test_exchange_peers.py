"""Geometry in other programs' words, asked of the programs themselves where they are installed."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import subprocess

import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.drr.reference import ReferenceProjector
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, View
from hierbmd.io import exchange_diffdrr, exchange_nanodrr, exchange_plastimatch
from hierbmd.io.exchange_common import RAS_FROM_LPS
from hierbmd.io.image import write_volume
from hierbmd.rigid import invert_rigid, transform_points

CAMERA = Camera(1040.0, (24, 17), (0.9, 1.1), (10.2, 9.7))
CENTRE = np.array([10.0, -20.0, 30.0])
POSE = Placement(View.AP, CENTRE, 800.0).camera_from_world(Motion(10, -20, 30, 1, 2, 3))


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
    given = exchange_diffdrr.diffdrr_from_geometry(camera, POSE, CENTRE)
    made = detector.Detector(
        given.sdd, given.height, given.width, given.delx, given.dely, given.x0, given.y0, torch.eye(4),
        reverse_x_axis=True,
    )  # fmt: skip
    source, target = made(poses.RigidTransform(torch.from_numpy(given.pose).float()[None]), None)
    ras_from_camera = RAS_FROM_LPS @ invert_rigid(POSE)
    shift = RAS_FROM_LPS[:3, :3] @ CENTRE
    np.testing.assert_allclose(source[0, 0], ras_from_camera[:3, 3] - shift, atol=1e-2)
    expected = transform_points(ras_from_camera, camera.detector_points_mm()).reshape(-1, 3) - shift
    np.testing.assert_allclose(target[0], expected, atol=1e-2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("beam", [Beam.CONE, Beam.PARALLEL])
def test_nanodrrs_own_rays_are_ours(beam):
    drr = peer("nanodrr.drr")
    import torch

    camera = dataclasses.replace(CAMERA, beam=beam)
    given = exchange_nanodrr.nanodrr_from_geometry(camera, POSE)
    sdd = torch.tensor([given.sdd], dtype=torch.float64)
    made = drr.DRR(torch.from_numpy(given.k_inv)[None], sdd, given.height, given.width, given.orthographic)
    ras_from_camera = RAS_FROM_LPS @ invert_rigid(POSE)
    for theirs, ours in ((made.src, camera.source_points_mm()), (made.tgt, camera.detector_points_mm())):
        found = np.broadcast_to(transform_points(given.rt_inv, theirs[0].numpy()), (given.height * given.width, 3))
        np.testing.assert_allclose(found, transform_points(ras_from_camera, ours).reshape(-1, 3), atol=1e-6)


@pytest.fixture
def blobs(tmp_path):
    """A scene of three smooth blobs along the world's axes, and its values as a file that plastimatch reads."""
    grid = Grid((22, 24, 20), np.array([[2.0, 0, 0, -14], [0, 2, 0, -42], [0, 0, 2, 12], [0, 0, 0, 1]]))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    places = [(9, 8, 12), (13, 15, 7), (8, 14, 8)]
    values = sum(np.exp(-np.sum((index - np.array(place)) ** 2, axis=-1) / 8.0) for place in places)
    scene = Scene(values.astype(np.float32), grid, None, ("all",), Quantity.ATTENUATION, "1")
    path = tmp_path / "blobs.mha"
    write_volume(path, Volume(scene.values, grid))
    return scene, path


@pytest.mark.parametrize("pose", [POSE, Placement(View.LAT, CENTRE, 800.0).camera_from_world(Motion(5, 6, -7))])
def test_plastimatch_projects_where_we_say_and_writes_the_file_that_we_read(blobs, tmp_path, pose):
    if shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed (Debian and Ubuntu: apt install plastimatch)")
    scene, path = blobs
    camera = Camera(1040.0, (34, 48), (2.0, 3.0), (15.5, 24.25))
    given = exchange_plastimatch.plastimatch_from_geometry(camera, pose, source_isocentre_mm=800.0)
    out = tmp_path / "out_"
    words = ["plastimatch", "drr", "-t", "pfm", "-i", "uniform", "-P", "none", *given.arguments()]
    subprocess.run([*words, "-I", str(path), "-O", str(out)], check=True, capture_output=True)
    text = (tmp_path / "out_0000.txt").read_text()
    found, found_pose = exchange_plastimatch.geometry_from_plastimatch_text(text, camera.size_px)
    np.testing.assert_allclose(found.pixel_mm, camera.pixel_mm, rtol=1e-6)
    np.testing.assert_allclose(found.centre_px, camera.centre_px, rtol=1e-6)
    np.testing.assert_allclose(found_pose, pose, atol=1e-5)
    ours = exchange_plastimatch.plastimatch_text(camera, pose, source_isocentre_mm=800.0)
    numbers = [np.array([float(w) for w in t.split() if w[0] not in "EI"]) for t in (text, ours)]
    np.testing.assert_allclose(*numbers, atol=1e-5)
    image = np.frombuffer((tmp_path / "out_0000.pfm").read_bytes()[-4 * 34 * 48 :], "<f4").reshape(48, 34)
    expected = ReferenceProjector(scene).image(camera, pose)[0]
    # Its integrals are in cm; its samples lie three quarters of a voxel apart.
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.9995
    assert np.sum(10 * image * expected) / np.sum(expected**2) == pytest.approx(1, abs=0.005)
