"""Every backend against closed-form line integrals, and what no fast path may get wrong."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.drr.projector import make_projector
from hierbmd.drr.reference import ReferenceProjector
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.errors import BadConfig, NotRigid, RaysMissVolume
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, View
from hierbmd.rigid import moved

BACKENDS = ["cpu", "reference"]
CENTRE = np.array([12.0, -7.0, 30.0])
TURN = Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix()
CAMERA = Camera(1000.0, (9, 8), (7.0, 8.0))
POSE = Placement(View.AP, CENTRE, 800.0).camera_from_world(Motion(14, -9, 21, 2, -3, 10))


def grid_about(centre, count, spacing_mm, *, oblique):
    """A cubic grid of count^3 around a centre, its axes the patient's or turned."""
    matrix = np.eye(4)
    matrix[:3, :3] = (TURN if oblique else np.eye(3)) * spacing_mm
    matrix[:3, 3] = centre - matrix[:3, :3] @ np.full(3, (count - 1) / 2)
    return Grid((count, count, count), matrix)


def one_voxel_thick(axis):
    """A slab of ones, one voxel of 2 mm thick along an axis, 9 x 9 voxels of 5 mm across."""
    shape, spacing = [9, 9, 9], [5.0, 5.0, 5.0]
    shape[axis], spacing[axis] = 1, 2.0
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    return Scene(np.ones(shape, np.float32), Grid(tuple(shape), matrix), None, ("all",), Quantity.THICKNESS, "mm")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("beam", list(Beam))
def test_gaussian_is_its_closed_form(phantoms, backend, beam, oblique):
    camera = dataclasses.replace(CAMERA, beam=beam)
    scene = phantoms.scene_of(phantoms.gaussian_field(CENTRE, 9.0), grid_about(CENTRE, 90, 1.0, oblique=oblique))
    image = make_projector(scene, backend).image(camera, POSE)[0]
    source, directions, _ = phantoms.rays_world(camera, POSE)
    expected = phantoms.gaussian_integral(CENTRE, 9.0, source, directions)
    # Linear interpolation adds spacing^2 / 6 to a Gaussian's variance: 0.2 % less in the middle.
    assert image == pytest.approx(expected, abs=0.005 * float(expected.max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("beam", list(Beam))
@pytest.mark.parametrize("shape", ["ellipsoid", "box"])
def test_solid_is_its_closed_form(phantoms, backend, beam, oblique, shape):
    camera = dataclasses.replace(CAMERA, beam=beam)
    size = np.array([28.0, 22.0, 25.0])
    solid = Rotation.from_euler("xyz", [10, 30, 50], degrees=True).as_matrix()
    field, integral = getattr(phantoms, f"{shape}_field"), getattr(phantoms, f"{shape}_integral")
    grid = grid_about(CENTRE, 80, 1.0, oblique=oblique)
    scene = phantoms.scene_of(field(CENTRE, size, solid), grid, oversample=2)
    image = make_projector(scene, backend).image(camera, POSE)[0]
    source, directions, _ = phantoms.rays_world(camera, POSE)
    expected = integral(CENTRE, size, solid, source, directions)
    # Along an edge a voxel's width decides; inside, where the chord is long, the chord is met within 0.5 %.
    inside = expected > 0.6 * expected.max()
    assert inside.sum() > 10
    assert np.sum(image[inside]) == pytest.approx(np.sum(expected[inside]), rel=0.005)
    assert np.median(np.abs(image[inside] / expected[inside] - 1)) < 0.005
    assert image == pytest.approx(expected, abs=0.05 * expected.max())


def test_cpu_is_the_reference(blob_scene, small_camera):
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(13, -22, 10, 3, 2, 1))
    whole = dataclasses.replace(blob_scene, channels=None, structures=("all",))
    fast, slow = (make_projector(whole, backend).image(small_camera, pose) for backend in BACKENDS)
    # Two voxels a standard deviation: the trapezoid rule in a cell, not rounding, is what is seen here.
    assert fast == pytest.approx(slow, abs=0.005 * float(slow.max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_structures_add_up_to_the_whole(blob_scene, small_camera, backend):
    pose = Placement(View.LAT, blob_scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(3, -2, 1))
    pivot = blob_scene.grid.centre_world_mm
    parts = make_projector(blob_scene, backend).image_and_jacobian(small_camera, pose, pivot)
    whole = dataclasses.replace(blob_scene, channels=None, structures=("all",))
    one = make_projector(whole, backend).image_and_jacobian(small_camera, pose, pivot)
    for several, single in zip(parts, one, strict=True):
        assert several.sum(axis=0) == pytest.approx(single[0], abs=1e-5 * float(np.abs(single).max()))
    for channel, name in enumerate(blob_scene.structures):
        alone = dataclasses.replace(
            blob_scene, values=blob_scene.channel_values(channel), channels=None, structures=(name,)
        )
        expected = make_projector(alone, backend).image(small_camera, pose)
        assert parts[0][channel] == pytest.approx(expected[0], abs=1e-5 * float(single.max()))


def test_background_is_in_no_image(blob_scene, small_camera):
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    only_two = np.where(blob_scene.channels == 2, 2, 0).astype(np.uint8)
    image = make_projector(dataclasses.replace(blob_scene, channels=only_two)).image(small_camera, pose)
    assert not image[0].any()
    assert image[1].any()
    assert not image[2].any()


@pytest.mark.parametrize("several", [False, True])
def test_48_axis_orders_render_alike(phantoms, blob_scene, small_camera, several):
    scene = blob_scene if several else dataclasses.replace(blob_scene, channels=None, structures=("all",))
    pose = Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world(Motion(13, -22, 10, 3, 2, 1))
    pivot = scene.grid.centre_world_mm
    expected, gradient = make_projector(scene).image_and_jacobian(small_camera, pose, pivot)
    scale = np.abs(gradient).max(axis=(0, 1, 2))
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        again = phantoms.reordered(scene, order, signs)
        image, jacobian = make_projector(again).image_and_jacobian(small_camera, pose, pivot)
        assert image == pytest.approx(expected, abs=1e-5 * float(expected.max()))
        # The field has kinks at the voxels: a ray that rounds to the other side of one has another slope there.
        assert np.median(np.abs(jacobian - gradient) / scale) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("view", list(View))
def test_one_voxel_thick_volume_has_its_thickness(backend, axis, view):
    scene = one_voxel_thick(axis)
    camera = Camera(1000.0, (5, 5), (3.0, 3.0))
    pose = Placement(view, np.zeros(3), 900.0).camera_from_world(Motion(0.3, 0.2, 0.1))
    image, jacobian = make_projector(scene, backend).image_and_jacobian(camera, pose, np.zeros(3))
    facing = int(np.argmax(np.abs(view.camera_from_world_rotation[2]))) == axis
    if facing:
        assert image == pytest.approx(np.full((1, 5, 5), 2.0), rel=1e-3)
    else:
        # Edge on: the field is a ridge of 2 mm half width, and 45 mm long with its rims.
        assert image.max() == pytest.approx(45.0, rel=0.1)
    assert np.all(np.isfinite(jacobian))


@pytest.mark.parametrize("backend", BACKENDS)
def test_axis_aligned_and_grazing_rays(backend):
    scene = Scene(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), np.eye(4)), None, ("all",), Quantity.THICKNESS, "mm")
    # A principal ray exactly on voxel centres, then exactly on the last plane, then on the rim where the field is zero.
    for x_mm, expected in ((3.0, 8.0), (7.0, 8.0), (7.5, 4.0), (8.0, 0.0)):
        pose = Placement(View.AP, np.array([x_mm, 3.5, 3.0]), 900.0).camera_from_world()
        image, jacobian = make_projector(scene, backend).image_and_jacobian(
            Camera(1000.0, (2, 1), (1e-7, 1e-7)), pose, np.zeros(3)
        )
        assert image[0] == pytest.approx(np.full((1, 2), expected), abs=2e-4)
        assert np.all(np.isfinite(jacobian))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("end", ["source", "detector"])
def test_ray_that_ends_inside_is_integrated_up_to_there(phantoms, backend, end):
    from scipy.special import erf

    grid = grid_about(np.zeros(3), 80, 1.0, oblique=True)
    scene = phantoms.scene_of(phantoms.gaussian_field(np.zeros(3), 10.0), grid)
    source_isocentre_mm = 5.5 if end == "source" else 994.5
    pose = Placement(View.AP, np.zeros(3), source_isocentre_mm).camera_from_world(Motion(10, 20, 30))
    image = make_projector(scene, backend).image(Camera(1000.0, (3, 3), (2.0, 2.0)), pose)[0]
    # From the one end to the centre and through the other half: Phi(5.5 / 10) of the whole line.
    expected = 10 * np.sqrt(2 * np.pi) * (1 + erf(5.5 / 10 / np.sqrt(2))) / 2
    assert image[1, 1] == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("source_isocentre_mm", [-300.0, 1500.0], ids=["behind the source", "beyond the detector"])
def test_rays_that_miss_are_refused(blob_scene, small_camera, backend, source_isocentre_mm):
    placement = Placement(View.AP, blob_scene.grid.centre_world_mm, source_isocentre_mm)
    words = "behind the source" if source_isocentre_mm < 0 else "beyond the detector"
    with pytest.raises(RaysMissVolume, match=words):
        make_projector(blob_scene, backend).image(small_camera, placement.camera_from_world())


@pytest.mark.parametrize("backend", BACKENDS)
def test_rays_beside_the_volume_are_zero_with_zero_gradient(blob_scene, backend):
    camera = Camera(1000.0, (60, 3), (10.0, 11.0))
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    image, jacobian = make_projector(blob_scene, backend).image_and_jacobian(camera, pose, np.zeros(3))
    assert not image[..., :10].any()
    assert not jacobian[..., :10, :].any()
    assert image[..., 28:32].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_structure_in_view_is_black_not_refused(blob_scene, small_camera, backend):
    nothing = dataclasses.replace(blob_scene, values=np.zeros_like(blob_scene.values))
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    assert not make_projector(nothing, backend).image(small_camera, pose).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_pose_that_reflects_is_refused(blob_scene, small_camera, backend):
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 700.0).camera_from_world()
    with pytest.raises(NotRigid, match="determinant -1"):
        make_projector(blob_scene, backend).image(small_camera, np.diag([-1.0, 1, 1, 1]) @ pose)


def test_backend_that_does_not_exist_is_refused(blob_scene):
    with pytest.raises(BadConfig, match="no backend 'opengl'"):
        make_projector(blob_scene, "opengl")


def test_reference_jacobian_is_its_central_difference(phantoms):
    grid = grid_about(CENTRE, 24, 3.0, oblique=True)
    scene = phantoms.scene_of(phantoms.gaussian_field(CENTRE, 9.0), grid)
    camera = Camera(1000.0, (4, 4), (9.0, 8.0), (1.2, 1.7))
    projector = ReferenceProjector(scene)
    pivot = CENTRE + np.array([4.0, -3.0, 8.0])
    _, jacobian = projector.image_and_jacobian(camera, POSE, pivot)
    for six, step in enumerate([1e-6] * 3 + [1e-4] * 3):
        twist = np.eye(6)[six] * step
        ahead, behind = (projector.image_float64(camera, moved(POSE, sign * twist, pivot)) for sign in (1, -1))
        by_difference = (ahead - behind) / (2 * step)
        error = np.linalg.norm(jacobian[..., six] - by_difference)
        assert error <= 1e-4 * np.linalg.norm(by_difference)
