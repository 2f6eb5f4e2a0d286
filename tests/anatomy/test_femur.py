"""A femur's axes against the virtual patient's own, whatever its pose, its voxels' order or the end of the scan."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation

from hierbmd.anatomy import shaft as module
from hierbmd.anatomy.femur import femur_axes
from hierbmd.anatomy.shape import Sphere
from hierbmd.errors import BadRegion
from hierbmd.geometry import Grid, Side
from hierbmd.rigid import rigid_matrix, transform_points
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

MOTION = rigid_matrix(
    Rotation.from_euler("xyz", [25.0, -40.0, 170.0], degrees=True).as_matrix(), np.array([11, -7, 300.0])
)


@pytest.fixture(scope="module")
def patients(coarse_patient):
    return [coarse_patient, *(virtual_patient(n, PatientOptions(spacing_mm=3.0)) for n in (0, 2))]


@pytest.mark.parametrize("side", ["left", "right"])
def test_axes_are_the_virtual_patients(patients, side):
    for patient in patients:
        axes = femur_axes(patient.labels.mask(f"femur_{side}"), patient.labels.grid)
        size = patient.anatomy.femora[0 if side == "left" else 1]
        assert np.linalg.norm(axes.head.centre_world_mm - patient.hip_centres_world_mm[side]) < 1.2
        assert axes.head.radius_mm == pytest.approx(size.head_radius_mm, abs=0.8)
        assert axes.neck_shaft_deg == pytest.approx(size.neck_shaft_deg, abs=3.0)
        assert axes.side == side
        assert axes.trochanter_found
        assert 0 < axes.neck.junction_mm < axes.neck.narrowest_mm < 2 * axes.head.radius_mm


def _moved(grid, motion):
    return Grid(grid.shape, motion @ grid.world_from_index)


def test_axes_follow_a_rigid_motion_exactly(coarse_patient):
    mask, grid = coarse_patient.labels.mask("femur_left"), coarse_patient.labels.grid
    axes, moved = femur_axes(mask, grid), femur_axes(mask, _moved(grid, MOTION))
    assert moved.head.centre_world_mm == pytest.approx(transform_points(MOTION, axes.head.centre_world_mm), abs=1e-5)
    for part in ("neck", "shaft"):
        assert getattr(moved, part).direction == pytest.approx(MOTION[:3, :3] @ getattr(axes, part).direction, abs=1e-7)
    assert moved.lesser_trochanter_end_mm == pytest.approx(axes.lesser_trochanter_end_mm, abs=1e-6)
    assert moved.side == axes.side == Side.LEFT


def test_axes_do_not_depend_on_the_order_of_the_voxels(coarse_patient):
    mask, grid = coarse_patient.labels.mask("femur_right"), coarse_patient.labels.grid
    axes = femur_axes(mask, grid)
    turned = mask[::-1].transpose(1, 2, 0)
    # index of the array as it was from that of the turned one: i = n - 1 - k', j = i', k = j'
    old_from_new = np.array([[0, 0, -1, mask.shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    other = femur_axes(turned, Grid(turned.shape, grid.world_from_index @ old_from_new))
    assert other.head.centre_world_mm == pytest.approx(axes.head.centre_world_mm, abs=1e-3)
    assert other.shaft.direction == pytest.approx(axes.shaft.direction, abs=1e-6)
    assert other.lesser_trochanter_end_mm == pytest.approx(axes.lesser_trochanter_end_mm, abs=1e-3)


def test_a_mirrored_bone_is_of_the_other_side(coarse_patient):
    mask, grid = coarse_patient.labels.mask("femur_left"), coarse_patient.labels.grid
    assert femur_axes(mask[::-1], grid).side == Side.RIGHT


def _cut(patient, below_mm):
    grid = patient.labels.grid
    height = transform_points(grid.world_from_index, np.argwhere(np.ones(grid.shape, bool)).astype(float))[:, 2]
    kept = (height > patient.hip_centres_world_mm["left"][2] - below_mm).reshape(grid.shape)
    return patient.labels.mask("femur_left") & kept


@pytest.mark.parametrize("below_mm", [30, 50, 70, 85])
def test_a_femur_cut_off_above_the_region_is_refused(coarse_patient, below_mm):
    with pytest.raises(BadRegion, match="cut off"):
        femur_axes(_cut(coarse_patient, below_mm), coarse_patient.labels.grid)


def test_a_short_scan_gives_nearly_the_same_axes(coarse_patient):
    whole = femur_axes(coarse_patient.labels.mask("femur_left"), coarse_patient.labels.grid)
    short = femur_axes(_cut(coarse_patient, 120), coarse_patient.labels.grid)
    assert np.degrees(np.arccos(short.shaft.direction @ whole.shaft.direction)) < 2.0
    assert short.lesser_trochanter_end_mm == pytest.approx(whole.lesser_trochanter_end_mm, abs=2.0)
    assert short.shaft.end_mm < 122


def test_what_is_no_femur_is_refused(coarse_patient):
    grid = coarse_patient.labels.grid
    with pytest.raises(BadRegion):
        femur_axes(coarse_patient.labels.mask("hip_left"), grid)
    bar = np.zeros(grid.shape, bool)
    bar[60:66, 30:36, 10:110] = True
    with pytest.raises(BadRegion, match="no femoral head"):
        femur_axes(bar, grid)


def test_spacing_in_metres_gives_no_head(coarse_patient):
    grid = coarse_patient.labels.grid
    metres = Grid(grid.shape, np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ grid.world_from_index)
    with pytest.raises(BadRegion):
        femur_axes(coarse_patient.labels.mask("femur_left"), metres)


def test_sector_heights_are_those_of_a_plain_loop():
    """The binned sums against a readable double loop over levels and sectors."""
    rng = np.random.default_rng(4)
    reach, angle, along = rng.uniform(10, 20, 9000), rng.uniform(-180, 180, 9000), rng.uniform(-3, 25, 9000)
    fast = module._heights(reach, angle, along, 20)
    for level in range(20):
        means = []
        for middle in np.arange(-180.0, 180.0, 15.0):
            near = (along >= level - 1.5) & (along < level + 1.5)
            near &= np.abs((angle - middle + 180.0) % 360.0 - 180.0) <= 15.0
            means.append(reach[near].mean())
        assert fast[level] == pytest.approx(np.array(means) - np.median(means), abs=1e-9)


def _mean_left_femur(path):
    """The mean of 26 real left femora as a mask at 2.5 mm: tetrahedra between its nodes, the large ones left out."""
    nodes = np.load(path)["mean"].reshape(3, -1).T
    mesh = Delaunay(nodes)
    corners = nodes[mesh.simplices]
    edges = 2.0 * (corners[:, 1:] - corners[:, :1])
    squares = np.sum(corners[:, 1:] ** 2, axis=2) - np.sum(corners[:, :1] ** 2, axis=2)
    centres = np.einsum("nij,nj->ni", np.linalg.pinv(edges), squares)
    small = np.linalg.norm(centres - corners[:, 0], axis=1) < 26.0
    low, high = nodes.min(axis=0) - 5.0, nodes.max(axis=0) + 5.0
    low[2] = high[2] - 195.0
    matrix = np.diag([2.5, 2.5, 2.5, 1.0])
    matrix[:3, 3] = low
    shape = tuple(np.ceil((high - low) / 2.5).astype(int))
    places = transform_points(matrix, np.argwhere(np.ones(shape, bool)).astype(float))
    inside = mesh.find_simplex(places)
    return ((inside >= 0) & small[inside]).reshape(shape), Grid(shape, matrix)


def test_a_real_femurs_handedness_and_lesser_trochanter_are_seen(shared_data):
    """The model's coordinates are LPS and its femora left ones; only the proportion used without a bump is theirs."""
    axes = femur_axes(*_mean_left_femur(shared_data / "femur-shape" / "femur_left_pca.npz"))
    assert axes.side == Side.LEFT
    assert axes.trochanter_found
    assert axes.lesser_trochanter_end_mm / axes.head.radius_mm == pytest.approx(2.9, abs=0.25)
    assert axes.head.radius_mm == pytest.approx(23.0, abs=1.5)


def test_the_real_right_femurs_head_and_neck_are_found_and_its_missing_shaft_is_said(shared_data):
    """torso-ct ends 34 mm below the head's centre: no total hip can be cut there, and that is the answer."""
    from hierbmd.anatomy.segmentation import checked_segmentation
    from hierbmd.io.ct import read_volume
    from hierbmd.io.labels import read_labels

    volume = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    labels = read_labels(shared_data / "torso-ct" / "example_ct_totalseg_labels.nii.gz", onto=volume.grid)
    found = checked_segmentation(volume, labels)
    assert found.findings["femora"]["femur_right"]["side_by_neck"] == "right"
    assert found.findings["femora"]["femur_left"]["side_by_neck"] == "left"
    assert "cut off" in found.findings["femora"]["femur_right"]["no_region"]
    assert found.findings["femora"]["femur_right"]["regions"] == ["femoral_neck"]
    assert found.regions["lumbar"].names_present == ("lumbar_l1", "lumbar_l2", "lumbar_l3", "lumbar_l4")
    assert (found.regions["trabecular"].ids[found.regions["vertebral_body"].ids == 0] == 0).all()
    neck = found.regions["femoral_neck"].mask("femoral_neck_right")
    assert 4.0 < neck.sum() * volume.grid.voxel_mm3 / 1000.0 < 25.0
    assert found.findings["bones"]["femur_left"]["metal_mm3"] > 5000
    assert found.findings["bones"]["femur_right"]["metal_mm3"] == 0


def _outline(bump_mm, *, from_mm=10.0, to_mm=50.0):
    """A shaft of 14 mm along z with a trochanter of a height on its lateral side (-x), 0 to 100 mm below the head."""
    along, turn = np.meshgrid(np.arange(0.0, 100.0, 0.5), np.radians(np.arange(0.0, 360.0, 3.0)), indexing="ij")
    reach = 14.0 + np.where((along > from_mm) & (along < to_mm), bump_mm, 0.0) * (np.cos(turn) < -0.9)
    surface = np.stack([reach * np.cos(turn), reach * np.sin(turn), along], axis=-1).reshape(-1, 3)
    head = Sphere(np.array([45.0, 0.0, 0.0]), 24.0, 0.0, 1.0)
    return surface, head, module.Shaft(np.zeros(3), np.array([0.0, 0.0, 1.0]), 14.0, 100.0)


def test_the_base_of_the_greater_trochanter_is_where_the_outline_stands_out():
    base = module.greater_trochanter_base(*_outline(8.0), below_mm=75.0)
    assert base[2] == pytest.approx(50.0, abs=3.0)
    assert base[0] == pytest.approx(-22.0, abs=0.5)


@pytest.mark.parametrize(
    "outline",
    [_outline(0.0), _outline(2.0), _outline(8.0, from_mm=80.0, to_mm=90.0)],
    ids=["none", "a roughness", "below the lesser trochanter"],
)
def test_an_outline_without_a_greater_trochanter_is_refused(outline):
    with pytest.raises(BadRegion, match="no greater trochanter"):
        module.greater_trochanter_base(*outline, below_mm=75.0)


@pytest.mark.parametrize(
    ("coarse", "said"), [(1, "check the femur's label"), (2, "voxels of 6.0 mm may be too coarse")]
)
def test_coarse_voxels_are_named_where_they_may_be_why_an_axis_is_not_found(coarse_patient, monkeypatch, coarse, said):
    """The same bone in each or every other slice; a trochanter of any height is refused here."""
    monkeypatch.setattr(module, "_LEAST_HEIGHT_MM", 1000.0)
    mask, grid = coarse_patient.labels.mask("femur_left"), coarse_patient.labels.grid
    steps = np.diag([1.0, 1.0, coarse, 1.0])
    mask = mask[:, :, ::coarse]
    with pytest.raises(BadRegion) as caught:
        femur_axes(mask, Grid(mask.shape, grid.world_from_index @ steps))
    assert "no greater trochanter" in caught.value.what
    assert said in str(caught.value)
