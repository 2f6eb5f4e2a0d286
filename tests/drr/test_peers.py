"""Against other projectors, where they are installed: the same image from the same volume, camera and pose."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.errors import MissingExtra
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
from hierbmd.io.ct import read_volume


def _missing(name):
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        return f"{name} is not installed ({error})"
    return ""


@pytest.fixture
def torso(shared_data):
    """Every second voxel of the real torso CT, HU."""
    volume = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    coarse = np.ascontiguousarray(volume.values[::2, ::2, ::2])
    return Volume(coarse, Grid(coarse.shape, volume.grid.world_from_index @ np.diag([2, 2, 2, 1.0])))


@pytest.mark.filterwarnings("ignore")
def test_diffdrr_projects_a_real_ct_alike(torso):
    if reason := _missing("diffdrr.drr"):
        pytest.skip(reason)
    scene = make_scene(torso, quantity="attenuation")
    camera = Camera(1000.0, (40, 36), (9.0, 9.0))
    pose = Placement(View.AP, torso.grid.centre_world_mm, 800.0).camera_from_world(Motion(5, -8, 3, 4, 5, 6))
    ours, theirs = (make_projector(scene, backend).image(camera, pose)[0] for backend in ("cpu", "diffdrr"))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.9999
    assert np.sum(ours * theirs) / np.sum(theirs**2) == pytest.approx(1.0, abs=0.005)


@pytest.mark.filterwarnings("ignore")
def test_diffdrr_jacobian_and_structures_are_the_references(blob_scene, small_camera):
    if reason := _missing("diffdrr.drr"):
        pytest.skip(reason)
    pose = Placement(View.LAT, blob_scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(5, -8, 3))
    pivot = blob_scene.grid.centre_world_mm
    image = make_projector(blob_scene, "diffdrr").image(small_camera, pose)
    assert image == pytest.approx(
        make_projector(blob_scene, "reference").image(small_camera, pose), abs=0.01 * float(image.max())
    )
    whole = dataclasses.replace(blob_scene, channels=None, structures=("all",))
    _, jacobian = make_projector(whole, "diffdrr").image_and_jacobian(small_camera, pose, pivot)
    _, gradient = make_projector(whole, "reference").image_and_jacobian(small_camera, pose, pivot)
    assert np.linalg.norm(jacobian - gradient) < 0.05 * np.linalg.norm(gradient)


def test_diffdrr_that_is_not_installed_is_named(blob_scene):
    if not _missing("diffdrr.drr"):
        pytest.skip("diffdrr is installed")
    with pytest.raises(MissingExtra, match=r"diffdrr cannot be imported.*pip install --no-deps diffdrr"):
        make_projector(blob_scene, "diffdrr")
