"""Left and right are never swapped: a letter R in the patient is read, or mirrored, as each view says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import Quantity, make_scene
from hierbmd.geometry import Camera, Grid, Placement, View
from hierbmd.io.labels import resample_labels

R = np.array(
    [[int(c) for c in row] for row in ("1111000", "1000100", "1000100", "1111000", "1010000", "1001000", "1000100")]
)
"""The letter as it is read, rows from the head down, with an empty column on its right: no symmetry at all."""

HU_OF_R, HU_OF_DOT = 900.0, 500.0


def letter_volume(frontal):
    """A CT (HU) with R in the frontal plane (columns to the patient's left) or the sagittal (columns to anterior).

    Index axes are L, P, S at 2 mm. A dot marks the letter's lower right corner, as a second structure.
    """
    flat = np.full((7, 7), -1000.0)
    flat[R == 1] = HU_OF_R
    flat[6, 6] = HU_OF_DOT
    values = np.full((7, 7, 7), -1000.0, dtype=np.float32)
    for row, col in np.ndindex(7, 7):
        # S grows towards the head, rows towards the feet; P grows towards the back, the sagittal columns forward.
        place = (col, 3, 6 - row) if frontal else (3, 6 - col, 6 - row)
        values[place] = flat[row, col]
    return Volume(values, Grid((7, 7, 7), np.diag([2.0, 2.0, 2.0, 1.0])))


def letter_labels(volume):
    ids = np.where(volume.values == HU_OF_R, 75, np.where(volume.values == HU_OF_DOT, 76, 0)).astype(np.uint8)
    return LabelMap(ids, volume.grid, {"letter": 75, "dot": 76})


def stored(value, grid, order, signs):
    """An array and its grid with the index axes in another order and direction."""
    flips = tuple(slice(None, None, sign) for sign in signs)
    old_from_new = np.zeros((4, 4))
    old_from_new[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        old_from_new[old, new], old_from_new[old, 3] = sign, 0 if sign > 0 else grid.shape[old] - 1
    again = np.ascontiguousarray(np.transpose(value, order)[flips])
    return again, Grid(again.shape, grid.world_from_index @ old_from_new)


def picture(scene, view):
    """The (S, 7, 7) image whose pixels are the letter's cells."""
    placement = Placement(view, scene.grid.centre_world_mm, 1e5)
    return make_projector(scene).image(Camera(1.0001e5, (7, 7), (2.0, 2.0)), placement.camera_from_world())


@pytest.mark.parametrize(("view", "frontal", "mirrored"), [("AP", 1, 0), ("PA", 1, 1), ("LAT", 0, 0)])
def test_letter_is_read_as_the_view_says(view, frontal, mirrored):
    scene = make_scene(letter_volume(frontal), quantity=Quantity.ATTENUATION)
    image = picture(scene, View(view))[0]
    letter = np.fliplr(R) if mirrored else R
    assert np.array_equal(image > 0.9 * image.max(), letter == 1)


@pytest.mark.parametrize(("view", "frontal", "mirrored"), [("AP", 1, 0), ("PA", 1, 1), ("LAT", 0, 0)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, 1)])
def test_letter_and_its_label_channels_do_not_depend_on_how_they_are_stored(view, frontal, mirrored, order, signs):
    volume = letter_volume(frontal)
    labels = letter_labels(volume)
    ids, label_grid = stored(labels.ids, volume.grid, order, signs)
    values, grid = stored(volume.values, volume.grid, order[::-1], (1, -1, -1))
    here = Volume(values, grid)
    there = resample_labels(LabelMap(ids, label_grid, labels.scheme), here.grid)
    scene = make_scene(here, there, quantity=Quantity.ATTENUATION, structures=("dot", "letter"))
    dot, letter = picture(scene, View(view))
    expected = np.fliplr(R) if mirrored else R
    assert np.array_equal(letter > 0.9 * letter.max(), expected == 1)
    assert np.unravel_index(dot.argmax(), dot.shape) == ((6, 0) if mirrored else (6, 6))


def test_labels_in_every_axis_order_give_the_same_channels():
    volume = letter_volume(1)
    labels = letter_labels(volume)
    expected = make_scene(volume, labels, quantity=Quantity.ATTENUATION, structures=("letter", "dot")).channels
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        ids, grid = stored(labels.ids, volume.grid, order, signs)
        scene = make_scene(
            volume, LabelMap(ids, grid, labels.scheme), quantity=Quantity.ATTENUATION, structures=("letter", "dot")
        )
        assert np.array_equal(scene.channels, expected)


def test_patients_left_is_on_the_images_right_in_ap():
    volume = letter_volume(1)
    only_left = np.full_like(volume.values, -1000.0)
    only_left[5:] = 1000.0
    image = picture(make_scene(Volume(only_left, volume.grid), quantity=Quantity.ATTENUATION), View.AP)[0]
    assert image[:, 5:].min() > 0
    assert image[:, :4].max() == 0
