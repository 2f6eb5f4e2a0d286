"""A real projection and a real CT in one frame: a head phantom's skull, brought back to the header's pose."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from hierbmd.data.volume import LabelMap
from hierbmd.geometry import Beam, ProjectionGeometry, View
from hierbmd.io.ct import read_volume
from hierbmd.io.localizer import read_localizer_geometry
from hierbmd.io.radiograph import read_radiograph
from hierbmd.registration.body import surface_points
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.patient import register_bones
from hierbmd.registration.target import target_error
from hierbmd.rigid import moved, rotation_angle_deg

SKULL_FROM_HU = 200.0
OPTIONS = RegistrationOptions(start_rotation_deg=10.0, start_in_plane_mm=25.0, start_depth_mm=20.0, around_hu=-1000.0)


@pytest.fixture(scope="module")
def pair(shared_data):
    """The CT, the skull (a dry one, by threshold) as its label map, the localizer, and where its header puts it."""
    folder = shared_data / "head-phantom-pair"
    localizer = folder / "surview_lateral_localizer.dcm"
    volume = read_volume(folder / "ct_head_phantom_half_inplane_1mmz.nii.gz")
    parts, _ = ndimage.label(volume.values > SKULL_FROM_HU)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    ids = np.where(parts == sizes.argmax(), 91, 0).astype(np.uint8)
    return volume, LabelMap(ids, volume.grid, {"skull": 91}), read_radiograph(localizer), localizer


def _up_to(rng, largest):
    direction = rng.normal(size=3)
    return direction / np.linalg.norm(direction) * rng.uniform(0, largest)


def trial(pair, number):
    """In-plane and depth errors, mm, turn in degrees, against the header's pose, and the registration, of one start.

    The start is turned by up to 10 degrees and shifted by up to 20 mm.
    """
    volume, labels, radiograph, localizer = pair
    header = read_localizer_geometry(localizer)
    points = surface_points(labels, "skull")
    rng = np.random.default_rng([5, number])
    off = moved(header.camera_from_world, np.r_[np.radians(_up_to(rng, 10.0)), _up_to(rng, 20.0)], points.mean(axis=0))
    start = ProjectionGeometry(header.camera, off, header.view)
    found = register_bones(volume, labels, radiograph, start, bones=("skull",), options=OPTIONS)["skull"]
    error = target_error(found.camera_from_world, header.camera_from_world, points, beam=Beam.SLOT)
    turn = rotation_angle_deg(found.camera_from_world[:3, :3] @ header.camera_from_world[:3, :3].T)
    return error, turn, found


def test_the_headers_geometry(pair):
    _, _, radiograph, localizer = pair
    header = read_localizer_geometry(localizer)
    assert (header.camera.beam, header.view) == (Beam.SLOT, View.LAT)
    assert header.camera.pixel_mm == pytest.approx((0.9765625 * 1040 / 570, 0.9765625))
    assert radiograph.camera == header.camera
    isocentre = np.array([0.0, -124.8 + 255.5 * 0.9765625, 700.0])
    seen = header.camera_from_world @ np.r_[isocentre, 1.0]
    assert seen[[0, 2]] == pytest.approx([0.0, 570.0])
    u, v = header.camera.pixels_from_camera(seen[None, :3])[0]
    assert (u, v) == pytest.approx((255.5, (916.5 - 700.0) / 0.9765625))


@pytest.mark.parametrize("number", range(3))
def test_the_skull_comes_back_to_the_headers_pose(pair, number):
    error, turn, found = trial(pair, number)
    assert found.converged, found.outcome
    assert error.in_plane_mm < 2.0
    assert turn < 1.0


@pytest.mark.slow
def test_fifty_random_starts(pair):
    trials = [trial(pair, number) for number in range(50)]
    in_plane = np.array([error.in_plane_mm for error, _, _ in trials])
    turn = np.array([turn for _, turn, _ in trials])
    converged = np.array([found.converged for _, _, found in trials])
    right = (in_plane < 2.0) & (turn < 1.0)
    assert right.mean() >= 0.9
    assert not np.any(converged & ~right)
