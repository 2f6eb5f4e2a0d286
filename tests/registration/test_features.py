"""The matrix filter is held to a sliding kernel, and to what a derivative is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from hierbmd.registration.features import REACH_SIGMAS, WIDE, gradient_filter


def _sliding(image: np.ndarray, sigma: float) -> np.ndarray:
    """The twin: scipy's Gaussian derivatives, narrow less wide, the image going on with its last value."""
    kinds = {"mode": "nearest", "truncate": REACH_SIGMAS}

    def along(axis, s):
        order = [0, 0]
        order[axis] = 1
        return ndimage.gaussian_filter(image, s, order=order, **kinds)

    return np.stack([along(axis, sigma) - along(axis, WIDE * sigma) for axis in (1, 0)])


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_matches_a_sliding_kernel(sigma):
    image = np.random.default_rng(0).normal(size=(40, 31))
    fast = gradient_filter((31, 40), sigma)(image.astype(np.float32))
    slow = _sliding(image, sigma)
    # scipy does not renormalise its truncated derivative; ours has exactly slope one on a ramp
    assert np.abs(fast - slow).max() < 0.01 * np.abs(slow).max()


def test_a_constant_and_a_ramp_have_no_band_pass_gradient():
    rows, columns = np.mgrid[:60, :50].astype(np.float32)
    filter_ = gradient_filter((50, 60), 1.0)
    assert np.abs(filter_(np.full((60, 50), 7.0, np.float32))).max() < 1e-5
    inner = (slice(None), slice(14, -14), slice(14, -14))
    assert np.abs(filter_(2 * columns - rows)[inner]).max() < 1e-4


def test_first_feature_is_along_columns_and_second_along_rows():
    image = np.zeros((50, 50), np.float32)
    image[:, 25:] = 1.0
    u, v = gradient_filter((50, 50), 1.0)(image)
    assert u[25, 25] > 0.1
    assert np.abs(v).max() < 1e-5


def test_is_linear_over_a_stack():
    stack = np.random.default_rng(1).normal(size=(6, 20, 24)).astype(np.float32)
    filter_ = gradient_filter((24, 20), 1.0)
    assert np.allclose(filter_(stack).sum(axis=0), filter_(stack.sum(axis=0)), atol=1e-5)
