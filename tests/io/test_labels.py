"""Label maps are carried to another grid in physical space, whatever the axis order of either."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap
from hierbmd.geometry import Grid
from hierbmd.io.ct import read_volume
from hierbmd.io.image import write_labels
from hierbmd.io.labels import read_labels, resample_labels, scheme_of
from hierbmd.rigid import transform_points


def blocks(shape: tuple[int, int, int], matrix: np.ndarray) -> LabelMap:
    """Every voxel its own id but a rim of background."""
    ids = np.zeros(shape, dtype=np.uint16)
    ids[1:-1, 1:-1, 1:-1] = np.arange(1, np.prod([n - 2 for n in shape]) + 1).reshape([n - 2 for n in shape])
    return LabelMap(ids, Grid(shape, matrix))


def oblique(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [10, -25, 40], degrees=True).as_matrix() * spacing_mm
    matrix[:3, 3] = [-20.0, 5.0, 33.0]
    return matrix


def nearest_by_hand(labels: LabelMap, onto: Grid) -> np.ndarray:
    """The slow twin: each voxel centre of the grid looked up on its own."""
    ids = np.zeros(onto.shape, dtype=labels.ids.dtype)
    for index in np.ndindex(onto.shape):
        world_mm = transform_points(onto.world_from_index, np.array(index, dtype=float))
        i, j, k = np.rint(transform_points(labels.grid.index_from_world, world_mm)).astype(int)
        if all(0 <= a < n for a, n in zip((i, j, k), labels.ids.shape, strict=True)):
            ids[index] = labels.ids[i, j, k]
    return ids


def test_all_48_axis_orders_carry_over_exactly() -> None:
    labels = blocks((5, 6, 7), oblique((0.8, 1.3, 2.0)))
    for axes, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        shape = tuple(labels.ids.shape[a] for a in axes)
        index_from_stored = np.zeros((4, 4))
        index_from_stored[3, 3] = 1
        ids = labels.ids.transpose(axes)
        for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
            index_from_stored[axis, column] = sign
            if sign < 0:
                index_from_stored[axis, 3] = labels.ids.shape[axis] - 1
                ids = np.flip(ids, column)
        stored = LabelMap(ids, Grid(shape, labels.grid.world_from_index @ index_from_stored))
        np.testing.assert_array_equal(resample_labels(stored, labels.grid).ids, labels.ids)


@pytest.mark.parametrize("spacing_mm", [(0.8, 1.3, 2.0), (2.1, 0.7, 1.1)])
def test_resampling_agrees_with_looking_up_each_voxel(spacing_mm: tuple[float, float, float]) -> None:
    labels = blocks((5, 6, 7), oblique((0.8, 1.3, 2.0)))
    shifted = oblique(spacing_mm)
    shifted[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix() @ shifted[:3, :3]
    shifted[:3, 3] += [1.234, -0.777, 0.5]
    onto = Grid((9, 8, 7), shifted)
    np.testing.assert_array_equal(resample_labels(labels, onto).ids, nearest_by_hand(labels, onto))


def test_parallel_axes_agree_with_looking_up_each_voxel() -> None:
    labels = blocks((5, 6, 7), oblique((0.8, 1.3, 2.0)))
    turned = np.array([[0, -0.7, 0, 4.33], [0, 0, 1.9, -0.83], [0.45, 0, 0, 1.11], [0, 0, 0, 1]])
    onto = Grid((9, 8, 7), labels.grid.world_from_index @ turned)
    np.testing.assert_array_equal(resample_labels(labels, onto).ids, nearest_by_hand(labels, onto))


def test_voxels_at_the_rim_reach_half_a_voxel_out() -> None:
    labels = LabelMap(np.full((2, 2, 2), 7, np.uint8), Grid((2, 2, 2), np.eye(4)))
    finer = np.diag([0.4, 1.0, 1.0, 1.0])
    finer[0, 3] = -0.6
    onto = Grid((7, 2, 2), finer)  # x = -0.6, -0.2, 0.2 ... 1.8
    np.testing.assert_array_equal(resample_labels(labels, onto).ids[:, 0, 0], [0, 7, 7, 7, 7, 7, 0])


def test_a_scheme_file_names_the_ids(tmp_path: Path) -> None:
    labels = blocks((4, 4, 4), np.eye(4))
    write_labels(tmp_path / "labels.mha", labels)
    (tmp_path / "scheme.json").write_text(json.dumps({"femur_right": 3, "femur_left": 99}))
    named = read_labels(tmp_path / "labels.mha", scheme=tmp_path / "scheme.json")
    assert named.names_present == ("femur_right",)
    assert named.mask("femur_right").sum() == 1
    assert read_labels(tmp_path / "labels.mha").names_present[:3] == ("spleen", "kidney_right", "kidney_left")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_of_another_scheme_travel_in_the_nifti(tmp_path: Path, suffix: str) -> None:
    labels = blocks((4, 4, 4), np.eye(4))
    named = LabelMap(labels.ids, labels.grid, {"femur_right": 1, "os coxae <links> & rechts": 8})
    write_labels(tmp_path / f"labels{suffix}", named)
    back = read_labels(tmp_path / f"labels{suffix}")
    assert back.names_present == ("femur_right", "os coxae <links> & rechts")
    np.testing.assert_array_equal(back.ids, labels.ids)
    assert scheme_of(tmp_path / f"labels{suffix}")[1] == "the file's own label table"


def test_the_scheme_has_117_classes_with_the_known_ids() -> None:
    assert sorted(TOTALSEGMENTATOR_V2.values()) == list(range(1, 118))
    known = {"femur_left": 75, "femur_right": 76, "hip_left": 77, "hip_right": 78, "sacrum": 25, "vertebrae_S1": 26}
    known |= {"vertebrae_L5": 27, "vertebrae_T12": 32, "rib_left_1": 92, "costal_cartilages": 117}
    assert known.items() <= TOTALSEGMENTATOR_V2.items()


def test_real_labels_lie_on_their_ct_with_left_on_the_left(shared_data: Path) -> None:
    ct = read_volume(shared_data / "torso-ct" / "example_ct.nii.gz")
    labels = read_labels(shared_data / "torso-ct" / "example_ct_totalseg_labels.nii.gz", onto=ct.grid)
    assert labels.ids.dtype == np.uint8
    centres = {}
    for name in ("femur_left", "femur_right", "hip_left", "hip_right"):
        assert ct.values[labels.mask(name)].mean() > 120
        centres[name] = transform_points(ct.grid.world_from_index, np.argwhere(labels.mask(name)).mean(axis=0))
    assert centres["femur_left"][0] > centres["hip_left"][0] > centres["hip_right"][0] > centres["femur_right"][0]
