"""Multi-scale amplification: the pyramid loses nothing, faint contrasts gain on strong ones."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.simulation.multiscale import Multiscale, amplified, amplified_band, collapsed, laplacian_pyramid


@pytest.mark.parametrize("shape", [(64, 64), (101, 77), (40, 250)])
def test_a_pyramid_gives_the_image_back(shape):
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    bands, rest = laplacian_pyramid(image)
    assert [b.shape for b in bands[1:]] == [tuple(-(-n // 2) for n in b.shape) for b in bands[:-1]]
    assert collapsed(bands, rest) == pytest.approx(image, abs=1e-5)
    unchanged = amplified(image, (1.0, 1.0), Multiscale(exponent=1.0, latitude=1.0))
    assert unchanged == pytest.approx(image, abs=1e-5)


def test_a_flat_image_has_no_bands_and_no_border():
    bands, rest = laplacian_pyramid(np.full((53, 90), 3.0, np.float32))
    assert max(float(np.abs(b).max()) for b in bands) < 1e-5
    assert rest == pytest.approx(3.0)


def test_contrast_follows_the_power_and_below_the_faintest_a_line():
    how = Multiscale(exponent=0.7, faintest=0.02)
    band = np.array([[-0.5, -0.05, -0.01, 0.0, 0.004, 0.02, 0.3, 1.0]], np.float32)
    gain = 0.02**-0.3
    expected = [-(0.5**0.7), -(0.05**0.7), -0.01 * gain, 0.0, 0.004 * gain, 0.02**0.7, 0.3**0.7, 1.0]
    assert amplified_band(band, how)[0] == pytest.approx(expected, rel=1e-5)


def _bars(contrast):
    columns = np.arange(256)
    return np.tile(contrast * np.sin(2 * np.pi * columns / 12), (256, 1)).astype(np.float32)


def test_faint_bars_gain_more_than_strong_ones_and_wide_shapes_lose():
    how = Multiscale(exponent=0.7, faintest=0.005, latitude=0.5, wide_mm=40.0)

    def gain(image):
        return float(np.std(amplified(image, (1.0, 1.0), how)[64:192, 64:192]) / np.std(image[64:192, 64:192]))

    assert gain(_bars(0.02)) > 1.6 * gain(_bars(0.5)) > 1.6
    slope = np.tile(np.linspace(-3, 3, 256), (256, 1)).astype(np.float32)
    assert gain(slope) < 0.75
