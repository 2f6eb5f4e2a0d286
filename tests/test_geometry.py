"""Frames: where voxels, pixels and patients are, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.errors import BadAffine, GeometryMissing, NotOrthogonal, NotRigid
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.rigid import invert_rigid, moved, require_rigid, rigid_matrix, rotation_angle_deg, transform_points

LEFT, POSTERIOR, HEAD = np.eye(3)


@pytest.fixture
def oblique_pose():
    placement = Placement(View.LAT, np.array([10.0, -20.0, 30.0]), 800.0)
    return placement.camera_from_world(Motion(10, -20, 30, 1, 2, 3))


@pytest.mark.parametrize(
    ("view", "right_of_image", "towards_detector"),
    [(View.AP, LEFT, POSTERIOR), (View.PA, -LEFT, -POSTERIOR), (View.LAT, -POSTERIOR, LEFT)],
)
def test_views_put_the_patient_before_the_source_head_up(view, right_of_image, towards_detector):
    pose = Placement(view, np.zeros(3), 900.0).camera_from_world()
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    centre = transform_points(pose, np.zeros(3))
    np.testing.assert_allclose(centre, [0, 0, 900])
    np.testing.assert_allclose(transform_points(pose, right_of_image) - centre, [1, 0, 0])
    np.testing.assert_allclose(transform_points(pose, HEAD) - centre, [0, -1, 0])
    np.testing.assert_allclose(transform_points(pose, towards_detector) - centre, [0, 0, 1])


def test_ap_shows_the_patients_left_on_the_images_right_and_the_head_on_top():
    camera = Camera(1000.0, (101, 101), (1.0, 1.0))
    pose = Placement(View.AP, np.zeros(3), 500.0).camera_from_world()
    pixel = camera.pixels_from_camera(transform_points(pose, np.array([10.0, 0.0, 20.0])))
    # Twice as large at half way: 20 columns to the right of 50, 40 rows up from 50.
    np.testing.assert_allclose(pixel, [70.0, 10.0])


def test_pose_is_the_contracts_formula():
    isocentre, motion = np.array([11.0, 22.0, 33.0]), Motion(10, 20, 30, 4, 5, 6)
    point = np.array([1.0, -2.0, 3.0])
    rotation = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    expected = rotation @ View.PA.camera_from_world_rotation @ (point - isocentre) + [4, 5, 6 + 800]
    np.testing.assert_allclose(
        transform_points(Placement(View.PA, isocentre, 800.0).camera_from_world(motion), point), expected
    )


@pytest.mark.parametrize("view", list(View))
def test_motion_is_found_again(view):
    placement = Placement(view, np.array([10.0, -20.0, 30.0]), 800.0)
    motion = Motion(10, -20, 30, 1, 2, 3)
    again = placement.motion_of(placement.camera_from_world(motion))
    np.testing.assert_allclose(list(vars(again).values()), list(vars(motion).values()), atol=1e-9)


def test_moved_turns_about_the_pivot_and_shifts_in_camera_axes(oblique_pose):
    pivot = np.array([5.0, 6.0, 7.0])
    twist = np.array([0.1, -0.2, 0.3, 4.0, 5.0, 6.0])
    after = moved(oblique_pose, twist, pivot)
    require_rigid(after)
    start = transform_points(oblique_pose, pivot)
    np.testing.assert_allclose(transform_points(after, pivot), start + twist[3:])
    point = np.array([50.0, -60.0, 70.0])
    turned = Rotation.from_rotvec(twist[:3]).as_matrix() @ (transform_points(oblique_pose, point) - start)
    np.testing.assert_allclose(transform_points(after, point), turned + start + twist[3:])
    np.testing.assert_allclose(moved(oblique_pose, np.zeros(6), pivot), oblique_pose, atol=1e-12)


def test_rigid_inverse_and_angle(oblique_pose):
    np.testing.assert_allclose(invert_rigid(oblique_pose) @ oblique_pose, np.eye(4), atol=1e-9)
    for angle in (0.0, 1e-6, 90.0, 179.9999):
        rotation = Rotation.from_rotvec(np.radians(angle) * np.array([0.6, 0.0, 0.8])).as_matrix()
        assert rotation_angle_deg(rotation) == pytest.approx(angle, abs=1e-9)


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (np.diag([-1.0, 1, 1, 1]), "determinant -1"),
        (np.diag([2.0, 2, 2, 1]), "determinant 8"),
        (np.diag([1.0, 1, 1, 2]), "not rigid"),
        (np.full((4, 4), np.nan), "finite 4x4"),
        (np.eye(3), r"shape \(3, 3\)"),
    ],
)
def test_pose_that_is_not_rigid_is_refused(matrix, text):
    with pytest.raises(NotRigid, match=text):
        require_rigid(matrix)
    with pytest.raises(NotRigid):
        ProjectionGeometry(Camera(1000.0, (2, 2), (1.0, 1.0)), matrix, View.AP)


def test_source_is_where_the_camera_is():
    pose = Placement(View.AP, np.array([1.0, 2.0, 3.0]), 700.0).camera_from_world(Motion(rz_deg=40))
    geometry = ProjectionGeometry(Camera(1000.0, (2, 2), (1.0, 1.0)), pose, View.AP, Side.LEFT)
    # In front of an AP patient: towards anterior, against P.
    np.testing.assert_allclose(geometry.source_world_mm, [1.0, 2.0 - 700.0, 3.0])


@pytest.mark.parametrize("beam", list(Beam))
def test_points_on_a_ray_are_projected_to_its_pixel(beam):
    camera = Camera(1000.0, (7, 5), (0.5, 0.25), (2.2, 3.3), beam)
    source, detector = camera.source_points_mm(), camera.detector_points_mm()
    assert source.shape == detector.shape == (5, 7, 3)
    pixels = camera.pixels_from_camera(source + 0.6 * (detector - source))
    cols, rows = np.meshgrid(np.arange(7), np.arange(5))
    np.testing.assert_allclose(pixels, np.stack([cols, rows], axis=-1), atol=1e-12)


def test_sources_move_along_with_the_pixel_where_rays_are_parallel():
    sources = {beam: Camera(1000.0, (2, 3), (10.0, 20.0), (0.0, 0.0), beam).source_points_mm() for beam in Beam}
    np.testing.assert_array_equal(sources[Beam.CONE], np.zeros((3, 2, 3)))
    np.testing.assert_array_equal(sources[Beam.PARALLEL][2, 1], [10.0, 40.0, 0.0])
    np.testing.assert_array_equal(sources[Beam.SLOT][2, 1], [0.0, 40.0, 0.0])


@pytest.mark.parametrize("beam", [Beam.PARALLEL, Beam.SLOT])
def test_only_a_cone_has_a_matrix(beam):
    with pytest.raises(GeometryMissing, match=f"a {beam} beam has no matrix K"):
        _ = Camera(1000.0, (7, 5), (0.5, 0.25), beam=beam).intrinsics


def test_principal_point_is_the_images_centre_by_default():
    assert Camera(1000.0, (640, 481), (1.0, 1.0)).centre_px == (319.5, 240.0)


def test_cropped_and_resized_cameras_see_the_same_points():
    camera = Camera(1000.0, (64, 48), (0.5, 0.6), (30.0, 20.0))
    point = np.array([3.0, -2.0, 700.0])
    u, v = camera.pixels_from_camera(point)
    np.testing.assert_allclose(camera.cropped(5, 7, (20, 20)).pixels_from_camera(point), [u - 5, v - 7])
    # The middle of a block of 4 x 4 pixels is at 1.5 of the old ones.
    small = camera.resized(4)
    assert small.size_px == (16, 12)
    np.testing.assert_allclose(small.pixels_from_camera(point), [(u - 1.5) / 4, (v - 1.5) / 4])
    np.testing.assert_allclose(small.detector_points_mm()[2, 3], camera.detector_points_mm()[8:12, 12:16].mean((0, 1)))


@pytest.mark.parametrize(
    ("sdd", "size", "pixel"),
    [
        (0.0, (2, 2), (1.0, 1.0)),
        (np.nan, (2, 2), (1.0, 1.0)),
        (1e3, (0, 2), (1.0, 1.0)),
        (1e3, (2, 2), (1.0, -1.0)),
        (1e3, (2, 2), (np.inf, 1.0)),
    ],
)
def test_camera_that_is_none_is_refused(sdd, size, pixel):
    with pytest.raises(GeometryMissing, match="not a camera"):
        Camera(sdd, size, pixel)


def test_camera_with_a_principal_point_that_is_not_finite_is_refused():
    with pytest.raises(GeometryMissing, match="not a camera"):
        Camera(1000.0, (2, 2), (1.0, 1.0), (np.nan, 0.0))


@pytest.mark.parametrize(
    ("matrix", "shape", "text"),
    [
        (np.diag([0.0, 1, 1, 1]), (2, 2, 2), "singular or has zero spacing"),
        (np.diag([np.nan, 1, 1, 1]), (2, 2, 2), "not finite"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (2, 2, 2), "singular"),
        (np.eye(4), (2, 2), "not three-dimensional"),
        (np.eye(4), (2, 0, 2), "not three-dimensional"),
    ],
)
def test_grid_that_is_none_is_refused(matrix, shape, text):
    with pytest.raises(BadAffine, match=text):
        Grid(shape, matrix)


def test_grid_knows_its_places():
    matrix = np.array([[0.0, 0, -3, 30], [2, 0, 0, -20], [0, 1, 0, 5], [0, 0, 0, 1]])
    grid = Grid((11, 21, 5), matrix)
    np.testing.assert_allclose(grid.spacing_mm, [2, 1, 3])
    assert grid.axis_codes == "PSR"
    assert grid.voxel_mm3 == pytest.approx(6.0)
    np.testing.assert_allclose(grid.centre_world_mm, [24, -10, 15])
    np.testing.assert_allclose(transform_points(grid.index_from_world, grid.centre_world_mm), [5, 10, 2])
    np.testing.assert_allclose(grid.corners_world_mm.min(axis=0), [18, -20, 5])
    np.testing.assert_allclose(grid.corners_world_mm.max(axis=0), [30, 0, 25])


def test_grids_are_equal_within_a_thousandth_of_a_millimetre():
    grid = Grid((10, 10, 10), np.eye(4))
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 0] = 5e-4, 1.001
    assert grid == Grid((10, 10, 10), near)
    assert grid != Grid((10, 10, 10), far)
    assert grid != Grid((10, 10, 9), np.eye(4))
    assert grid != "grid"


def test_grid_cannot_be_changed_from_outside():
    matrix = np.eye(4)
    grid = Grid((2, 2, 2), matrix)
    matrix[0, 0] = 5
    assert grid.world_from_index[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.world_from_index[0, 0] = 5


def test_shear_is_refused_where_right_angles_matter():
    matrix = np.eye(4)
    matrix[1, 2] = np.tan(np.radians(12.0))
    with pytest.raises(NotOrthogonal, match=r"not orthogonal \(12.0 deg\)"):
        Grid((2, 2, 2), matrix).require_orthogonal()
    Grid((2, 2, 2), rigid_matrix(Rotation.from_euler("xyz", [1, 2, 3]).as_matrix(), np.zeros(3))).require_orthogonal()
