"""The picture of labels on three planes: where left, front and head are, and that contours run where labels end."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.anatomy.planes import labels_picture
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid

FEMUR_RGB, HIP_RGB = (255, 196, 0), (80, 190, 255)


@pytest.fixture(scope="module")
def scene() -> tuple[Volume, LabelMap]:
    """A field of 80 x 60 x 100 mm at 2 mm; one bone on the left, in front, low, and one on the right, high."""
    ids = np.zeros((40, 30, 50), np.uint8)
    ids[26:36, 4:14, 5:25] = 75
    ids[4:14, 4:14, 28:44] = 77
    hu = np.where(ids > 0, 1150.0, -350.0).astype(np.float32)
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = (-40.0, 10.0, -300.0)
    grid = Grid(ids.shape, matrix)
    return Volume(hu, grid), LabelMap(ids, grid, {"femur_left": 75, "hip_left": 77})


def _where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere(np.all(picture == colour, axis=-1))


def test_left_is_on_the_right_and_the_head_is_up(scene):
    picture = labels_picture(*scene, at_world_mm=np.array([20.0, 28.0, -270.0]), height_px=100)
    assert picture.shape[0] == 100
    # One scale: 98 mm of height over 99 pixels; axial 79 wide, coronal the same, sagittal 59.
    columns = _where(picture, FEMUR_RGB)[:, 1]
    axial, coronal, sagittal = columns[columns < 80], columns[(columns > 82) & (columns < 164)], columns[columns > 167]
    assert axial.min() > 45  # the patient's left
    assert coronal.min() > 84 + 45
    assert sagittal.size
    assert sagittal.max() < 167 + 35  # anterior on the left
    rows = _where(picture[:, 84:164], FEMUR_RGB)[:, 0]
    assert rows.min() > 45  # low in the body, low in the picture


def test_contours_run_along_the_inside_of_a_label(scene):
    picture = labels_picture(*scene, names=["femur_left"], height_px=100)
    axial = _where(picture[:, :80], FEMUR_RGB)
    inside = np.all(picture[:, :80] == 255, axis=-1)
    assert not _where(picture, HIP_RGB).size
    rim = {tuple(pixel) for pixel in axial}
    low, high = axial.min(axis=0), axial.max(axis=0)
    assert high[1] - low[1] == pytest.approx(20 / (98 / 99), abs=1.5)
    assert len(rim) == 2 * (high[0] - low[0] + high[1] - low[1])
    assert inside[low[0] + 1 : high[0], low[1] + 1 : high[1]].all()


def test_the_picture_does_not_depend_on_the_order_of_axes(scene):
    volume, labels = scene
    turned = np.zeros((4, 4))
    turned[:, 3] = volume.grid.world_from_index @ [volume.grid.shape[0] - 1, 0, 0, 1]
    turned[:3, 1] = -volume.grid.world_from_index[:3, 0]
    turned[:3, 2], turned[:3, 0] = volume.grid.world_from_index[:3, 1], volume.grid.world_from_index[:3, 2]

    def reordered(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values[::-1].transpose(2, 0, 1))

    grid = Grid(reordered(labels.ids).shape, turned)
    other = labels_picture(Volume(reordered(volume.values), grid), LabelMap(reordered(labels.ids), grid, labels.scheme))
    assert np.mean(other != labels_picture(volume, labels)) < 0.002


def test_nothing_to_draw_is_said(scene):
    with pytest.raises(LabelsMismatch, match="no structure to draw"):
        labels_picture(*scene, names=["sacrum"])
