"""Against other projectors, where they are installed: the same image from the same volume, camera and pose."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import BadConfig, MissingExtra, RaysMissVolume
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, View
from hierbmd.io.ct import read_volume

MODULES = {"diffdrr": "diffdrr.drr", "nanodrr": "nanodrr.drr"}
PEERS = sorted(MODULES)

# torchio and jaxtyping warn about deprecations of their own.
pytestmark = pytest.mark.filterwarnings("ignore")


def _missing(peer):
    try:
        importlib.import_module(MODULES[peer])
    except (ImportError, RuntimeError) as error:
        return f"{peer} is not installed ({error})"
    return ""


@pytest.fixture(params=PEERS)
def peer(request):
    """A backend that another project renders for."""
    if reason := _missing(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="module")
def torso(shared_data):
    """Every second voxel of the real torso CT, HU."""
    volume = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    coarse = np.ascontiguousarray(volume.values[::2, ::2, ::2])
    return Volume(coarse, Grid(coarse.shape, volume.grid.world_from_index @ np.diag([2, 2, 2, 1.0])))


def pose_of(grid, view=View.AP, distance_mm=800.0):
    return Placement(view, grid.centre_world_mm, distance_mm).camera_from_world(Motion(5, -8, 3, 4, 5, 6))


@pytest.mark.parametrize("beam", list(Beam))
def test_a_real_ct_is_projected_alike(peer, torso, beam):
    scene = make_scene(torso, quantity="attenuation")
    camera = Camera(1000.0, (40, 36), (9.0, 9.0), beam=beam)
    pose = pose_of(torso.grid)
    ours, theirs = (make_projector(scene, backend).image(camera, pose)[0] for backend in ("cpu", peer))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.9999
    assert np.sum(ours * theirs) / np.sum(theirs**2) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("beam", list(Beam))
def test_structures_and_jacobian_are_the_references(peer, blob_scene, small_camera, beam):
    camera = dataclasses.replace(small_camera, beam=beam)
    pose = Placement(View.LAT, blob_scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(5, -8, 3))
    reference = make_projector(blob_scene, "reference").image(camera, pose)
    image = make_projector(blob_scene, peer).image(camera, pose)
    assert image.dtype == np.float32
    assert image == pytest.approx(reference, abs=0.01 * float(reference.max()))
    whole = dataclasses.replace(blob_scene, channels=None, structures=("all",))
    pivot = blob_scene.grid.centre_world_mm + np.array([5.0, -3.0, 8.0])
    image, jacobian = make_projector(whole, peer).image_and_jacobian(camera, pose, pivot)
    expected, gradient = make_projector(whole, "reference").image_and_jacobian(camera, pose, pivot)
    assert image == pytest.approx(expected, abs=0.01 * float(expected.max()))
    assert np.linalg.norm(jacobian - gradient) < 0.05 * np.linalg.norm(gradient)


@pytest.mark.parametrize("beam", list(Beam))
def test_nanodrrs_derivative_by_the_rays_ends_is_the_references(blob_scene, small_camera, beam):
    if reason := _missing("nanodrr"):
        pytest.skip(reason)
    camera = dataclasses.replace(small_camera, beam=beam)
    # The detector stands within the blobs, so that the lengths of rays count.
    pose = pose_of(blob_scene.grid, View.LAT, distance_mm=995.0)
    image, ends = make_projector(blob_scene, "nanodrr").image_and_ends(camera, pose)
    expected, by_ends = make_projector(blob_scene, "reference").image_and_ends(camera, pose)
    assert image == pytest.approx(expected, abs=0.01 * float(expected.max()))
    for end in range(2):
        assert np.linalg.norm(ends[..., end, :] - by_ends[..., end, :]) < 0.05 * np.linalg.norm(by_ends[..., end, :])


def test_diffdrr_refuses_what_it_has_not(blob_scene, small_camera):
    if reason := _missing("diffdrr"):
        pytest.skip(reason)
    with pytest.raises(BadConfig, match="diffdrr gives no derivative by the rays' ends"):
        make_projector(blob_scene, "diffdrr").image_and_ends(small_camera, pose_of(blob_scene.grid))


def test_a_volume_that_no_ray_meets_is_refused(peer, blob_scene, small_camera):
    with pytest.raises(RaysMissVolume, match="behind the source"):
        make_projector(blob_scene, peer).image(small_camera, pose_of(blob_scene.grid, distance_mm=-800.0))


@pytest.mark.parametrize("backend", PEERS)
def test_a_peer_that_cannot_be_imported_is_named(blob_scene, monkeypatch, backend):
    # None in sys.modules makes an import fail as that of a package that is not there.
    monkeypatch.setitem(importlib.sys.modules, MODULES[backend], None)
    monkeypatch.setitem(importlib.sys.modules, backend, None)
    with pytest.raises(MissingExtra, match=rf"{backend} cannot be imported.*pip install .*{backend}=="):
        make_projector(blob_scene, backend)
