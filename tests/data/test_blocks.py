"""Means over blocks, and what becomes of a rest."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.blocks import block_mean

IMAGE = np.arange(5 * 7, dtype=np.float32).reshape(5, 7)


def test_by_hand_without_the_rest():
    small = block_mean(IMAGE, 2, drop_rest=True)
    assert small.shape == (2, 3)
    assert small[0, 0] == pytest.approx(np.mean([0, 1, 7, 8]))
    assert small[1, 2] == pytest.approx(np.mean([18, 19, 25, 26]))


@pytest.mark.parametrize("shape", [(4, 7), (5, 6)])
def test_a_rest_is_refused_unless_it_may_go(shape):
    with pytest.raises(ValueError, match="whole blocks of 2"):
        block_mean(np.zeros(shape, np.float32), 2)


def test_channels_are_averaged_each():
    image = np.stack([IMAGE[:4, :6], -2 * IMAGE[:4, :6]], axis=-1)
    small = block_mean(image, 2)
    assert small.shape == (2, 3, 2)
    np.testing.assert_array_equal(small[..., 1], -2 * small[..., 0])


def test_one_pixel_a_block_changes_nothing():
    np.testing.assert_array_equal(block_mean(IMAGE, 1), IMAGE)
    assert block_mean(IMAGE.astype(np.float64), 1).dtype == np.float32
