"""Copies of a radiograph that is read several times."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierbmd.models import moved
from hierbmd.models.moved import motions, moved_copies


def test_one_reading_is_the_image_as_it_is() -> None:
    image = torch.rand(2, 1, 8, 6)
    (only,) = moved_copies(image, 1)
    assert torch.equal(only, image)


def test_motions_come_in_pairs_that_cancel_and_stay_in_bounds() -> None:
    table = motions(9)
    assert table.shape == (8, 4)
    np.testing.assert_allclose(table[0::2], -table[1::2])
    bounds = (moved.TURN_DEG, moved.SHIFT_PX, moved.SHIFT_PX, moved.SCALE)
    assert (np.abs(table) <= bounds).all()
    assert (np.abs(table).max(axis=0) > 0.5 * np.array(bounds)).all()
    np.testing.assert_array_equal(motions(4), motions(9)[:3])


@pytest.mark.parametrize(
    ("motion", "row_px", "column_px"),
    [
        ((0.0, 3.0, 0.0, 0.0), 20.0, 33.0),
        ((0.0, 0.0, -2.0, 0.0), 18.0, 30.0),
        # About the centre (31.5, 23.5): what is left of it comes below it, what is above it comes left of it.
        ((90.0, 0.0, 0.0, 0.0), 25.0, 28.0),
        ((0.0, 0.0, 0.0, np.log(2.0)), 16.5, 28.5),
    ],
)
def test_a_copy_moves_as_its_motion_says(monkeypatch, motion, row_px, column_px) -> None:
    rows, columns = np.mgrid[:48, :64]
    blob = np.exp(-((rows - 20.0) ** 2 + (columns - 30.0) ** 2) / (2 * 2.0**2)).astype(np.float32)
    monkeypatch.setattr(moved, "motions", lambda readings: np.array([motion]))
    _, copy = moved_copies(torch.from_numpy(blob)[None, None], 2)
    weight = copy[0, 0].numpy()
    assert (weight * rows).sum() / weight.sum() == pytest.approx(row_px, abs=0.02)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(column_px, abs=0.02)
