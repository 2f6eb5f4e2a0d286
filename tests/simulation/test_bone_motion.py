"""Bones moved on their own: nothing lost, nothing torn, and where the pose says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hierbmd.data.volume import LabelMap
from hierbmd.errors import LabelsMismatch, NotRigid
from hierbmd.geometry import Grid
from hierbmd.rigid import invert_rigid, rigid_matrix, transform_points
from hierbmd.simulation.basis import Basis, decompose
from hierbmd.simulation.bone_motion import bone_piece, with_moved_bones
from hierbmd.simulation.truth import bone_region, true_areal_density


def _turn(pivot, angles_deg):
    turn = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    return rigid_matrix(turn, pivot - turn @ pivot)


@pytest.fixture(scope="module")
def motion(patient):
    return _turn(patient.hip_centres_world_mm["left"], [4.0, -6.0, 5.0])


@pytest.fixture(scope="module")
def basis(patient):
    return decompose(patient.body)


@pytest.fixture(scope="module")
def moved(patient, basis, motion):
    return with_moved_bones(basis, patient.labels, {"femur_left": motion})


def test_mineral_is_kept(basis, moved):
    before, after = basis.amounts[..., 2].sum(), moved.amounts[..., 2].sum()
    assert after == pytest.approx(before, rel=0.02)


def test_a_whole_bone_keeps_its_mineral_within_three_in_a_thousand():
    """A head on a shaft, all inside the volume, turned by 10 degrees about its head in soft tissue beside a socket."""
    grid = Grid((60, 60, 60), np.diag([2.0, 2.0, 2.0, 1.0]))
    place = np.moveaxis(np.indices(grid.shape), 0, -1) * 2.0
    head, shaft = np.array([50.0, 60.0, 86.0]), np.array([64.0, 60.0, 0.0])
    away = np.linalg.norm(place - head, axis=-1)
    across = np.linalg.norm((place - shaft)[..., :2], axis=-1)
    share = np.maximum(np.clip(0.5 + (20.0 - away) / 2, 0, 1), np.clip(0.5 + (11.0 - across) / 2, 0, 1))
    share[(place[..., 2] < 20.0) | (place[..., 2] > 86.0) & (away > 22.0)] = 0.0
    socket = (away > 23.0) & (away < 29.0) & (place[..., 2] > 92.0)
    labels = LabelMap(
        np.where(share > 0.5, 1, np.where(socket, 2, 0)).astype(np.uint8), grid, {"femur_left": 1, "hip_left": 2}
    )
    amounts = np.zeros((*grid.shape, 4), np.float32)
    amounts[..., 1] = 1.0
    amounts[..., 2] = 0.4 * share
    alone = amounts[..., 2].sum(dtype=np.float64)
    amounts[socket, 2] = 0.7
    moved = with_moved_bones(Basis(amounts, grid), labels, {"femur_left": _turn(head, [4.0, 8.0, 5.0])})
    assert np.array_equal(moved.amounts[socket], amounts[socket])
    assert moved.amounts[~socket, 2].sum(dtype=np.float64) == pytest.approx(alone, rel=0.003)
    # Fat, muscle and bone fill every voxel as before: no gap opens at the joint.
    assert moved.amounts[..., 1].min() == pytest.approx(1.0, abs=1e-4)


def _centroid_near_head(patient, mineral):
    """The centroid of mineral within 90 mm of the left head, about which it turns: the ball turns onto itself."""
    index = np.argwhere(mineral > 0).astype(float)
    points = transform_points(patient.labels.grid.world_from_index, index)
    near = np.linalg.norm(points - patient.hip_centres_world_mm["left"], axis=1) < 90.0
    weight = mineral[mineral > 0][near]
    return (points[near] * weight[:, None]).sum(axis=0) / weight.sum()


def test_the_bone_is_where_its_pose_says(patient, basis, motion):
    """The centroid of the moved femur's mineral is the motion of the centroid before."""
    piece = bone_piece(patient.labels, "femur_left")
    alone = np.zeros_like(basis.amounts)
    alone[piece] = basis.amounts[piece]
    moved = with_moved_bones(Basis(alone, basis.grid), patient.labels, {"femur_left": motion})
    before = _centroid_near_head(patient, alone[..., 2])
    after = _centroid_near_head(patient, moved.amounts[..., 2])
    assert np.linalg.norm(transform_points(motion, before) - before) > 3.0
    assert after == pytest.approx(transform_points(motion, before), abs=0.3)


def test_other_bones_and_tissue_stay(patient, basis, moved):
    hip = patient.labels.mask("hip_right")
    assert np.array_equal(moved.amounts[hip], basis.amounts[hip])
    away = patient.labels.grid.centre_world_mm[0] - 30
    i = int(np.round((away - patient.labels.grid.world_from_index[0, 3]) / 4.0))
    assert np.array_equal(moved.amounts[:i], basis.amounts[:i])


def test_nothing_tears(basis, moved):
    """Deeper in the body than skin moves, every voxel stays full: no hole of air where the bone was or is."""
    full = basis.amounts[..., 0] + basis.amounts[..., 1]
    still = moved.amounts[..., 0] + moved.amounts[..., 1]
    inside = ndimage.distance_transform_edt(full > 0.97, sampling=4.0) > 24.0
    assert np.count_nonzero(inside) > 100_000
    assert still[inside].min() > 0.6
    assert np.mean(still[inside] < 0.9) < 1e-3


def test_the_thigh_follows_its_femur_and_the_pelvis_holds_what_is_on_it(patient, basis, motion, moved):
    """Half way down the shaft the skin goes along with the bone; above the crest nothing moves."""
    femur = patient.labels.mask("femur_left")
    grid, mineral = patient.labels.grid, np.argwhere(femur)
    k = int(mineral[:, 2].min()) + 12
    body = np.argwhere(basis.amounts[:, :, k, :2].sum(axis=-1) > 0.5)
    after = np.argwhere(moved.amounts[:, :, k, :2].sum(axis=-1) > 0.5)
    shaft = mineral[mineral[:, 2] == k].mean(axis=0)
    at = transform_points(grid.world_from_index, shaft)
    goes_mm = (transform_points(motion, at) - at)[0]
    skin_mm = grid.spacing_mm[0] * (after[:, 0].max() - body[:, 0].max())
    assert abs(goes_mm) > 8.0
    assert skin_mm == pytest.approx(goes_mm, abs=0.5 * abs(goes_mm) + 4.0)
    top = patient.labels.mask("hip_left").nonzero()[2].max()
    assert np.array_equal(moved.amounts[:, :, top:], basis.amounts[:, :, top:])


def test_no_mineral_is_left_in_the_hole(patient, motion, moved):
    mask = patient.labels.mask("femur_left")
    index = np.moveaxis(np.indices(mask.shape), 0, -1).reshape(-1, 3).astype(float)
    grid = patient.labels.grid
    back = transform_points(grid.index_from_world @ invert_rigid(motion) @ grid.world_from_index, index)
    covered = ndimage.map_coordinates(
        ndimage.binary_dilation(mask, iterations=2).astype(np.float32), back.T, order=1
    ).reshape(mask.shape)
    left = ndimage.binary_erosion(mask, iterations=1) & (covered < 0.01) & (patient.labels.ids > 0)
    assert left.sum() > 20
    assert moved.amounts[..., 2][left].max() < 0.02


def test_no_motion_changes_nothing_inside_the_bone(patient, basis):
    still = with_moved_bones(basis, patient.labels, {"femur_left": np.eye(4)}).amounts
    mask = patient.labels.mask("femur_left")
    assert still[mask] == pytest.approx(basis.amounts[mask], abs=1e-5)


def test_the_truth_of_a_moved_bone_is_the_projection_of_the_moved_voxels(patient, motion, small_geometry):
    """Areal density by the bone's own pose agrees with marching through the resampled bone."""
    from hierbmd.simulation.raymarch import line_integrals

    region = bone_region(patient.labels, "femur_left")
    camera = small_geometry.camera
    pose = small_geometry.camera_from_world @ motion
    by_pose = true_areal_density(patient.density, region, camera, pose, rays=1).areal_g_cm2
    density = np.zeros((*patient.density.values.shape, 4), np.float32)
    density[region, 2] = 1e-3 * patient.density.values[region]
    resampled = with_moved_bones(Basis(density, patient.density.grid), patient.labels, {"femur_left": motion})
    marched = line_integrals(resampled.amounts, resampled.grid, camera, small_geometry.camera_from_world, step_mm=0.5)
    by_voxels = 0.1 * marched[..., 2]
    # Compared above the shaft's cut end, which goes on in the resampled volume only.
    rows = np.flatnonzero(by_pose.max(axis=1) > 0)
    upper = slice(rows[0], rows[0] + int(0.6 * len(rows)))
    assert by_voxels[upper].sum() == pytest.approx(by_pose[upper].sum(), rel=0.01)
    assert np.abs(by_voxels[upper] - by_pose[upper]).mean() < 0.03 * by_pose[upper].max()


def test_bad_motions_and_labels_are_refused(patient, basis):
    with pytest.raises(NotRigid):
        with_moved_bones(basis, patient.labels, {"femur_left": np.diag([-1.0, 1, 1, 1])})
    with pytest.raises(LabelsMismatch):
        with_moved_bones(basis, patient.labels, {"skull": np.eye(4)})
    other = Grid(patient.labels.grid.shape, np.diag([9.0, 9, 9, 1]))
    with pytest.raises(LabelsMismatch):
        with_moved_bones(basis, LabelMap(patient.labels.ids, other, patient.labels.scheme), {"femur_left": np.eye(4)})
