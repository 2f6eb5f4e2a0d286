"""Reconstruction kernels: their MTF in an image, and the noise that goes with it."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.simulation.ct_kernel import KERNELS, correlated_noise, noise_covariance, noise_gain, reconstructed

SHAPE = (96, 100)


@pytest.mark.parametrize("name", KERNELS)
def test_the_mtf_is_one_at_rest_and_a_tenth_where_it_says(name):
    kernel = KERNELS[name]
    assert kernel.mtf(np.array([0.0, kernel.tenth_per_mm])) == pytest.approx([1.0, 0.1])
    peak = kernel.mtf(np.linspace(0, kernel.tenth_per_mm, 500)).max()
    assert peak == pytest.approx(1.1, abs=0.01) if name == "sharp" else peak == 1.0


@pytest.mark.parametrize("name", KERNELS)
def test_an_edge_between_pixels_shows_the_kernels_mtf(name):
    """Half-planes at sub-pixel shifts, averaged over pixels, give a finely sampled edge; its slope's spectrum is the
    MTF, whose 10 % point comes back within 2 %."""
    pixel, kernel, steps, x = 0.25, KERNELS[name], 4, np.arange(160)
    places, values = [], []
    for edge in 80.0 + np.arange(steps) / steps:
        line = np.clip(edge - x + 0.5, 0.0, 1.0).astype(np.float32)
        places.append((x - edge) * pixel)
        values.append(reconstructed(np.repeat(line[:, None], 40, axis=1), pixel, kernel)[:, 20])
    places, values = np.concatenate(places), np.concatenate(values)
    order = np.argsort(places)
    spread = -np.diff(values[order]) / np.diff(places[order])
    middle = 0.5 * (places[order][1:] + places[order][:-1])
    per_mm = np.linspace(0.0, 1.6, 801)
    mtf = np.abs(np.exp(-2j * np.pi * per_mm[:, None] * middle) @ (spread * np.diff(places[order])))
    mtf = mtf / mtf[0] / np.sinc(per_mm * pixel / steps)
    found = per_mm[np.flatnonzero(mtf > 0.1)[-1]]
    assert found == pytest.approx(kernel.tenth_per_mm, rel=0.02)


def test_a_kernel_keeps_the_mean():
    image = np.random.default_rng(0).normal(40.0, 100.0, SHAPE).astype(np.float32)
    flat = np.full(SHAPE, 40.0, dtype=np.float32)
    assert reconstructed(flat, 0.9, KERNELS["sharp"]) == pytest.approx(flat, abs=1e-3)
    assert reconstructed(image, 0.9, KERNELS["soft"]).mean() == pytest.approx(image.mean(), abs=0.5)


@pytest.mark.parametrize("name", KERNELS)
def test_noise_has_unit_variance_and_the_covariance_of_its_kernel(name):
    rng = np.random.default_rng(4)
    expected = noise_covariance(0.8, KERNELS[name])
    assert expected[0, 0] == pytest.approx(1.0, abs=1e-3)
    fields = np.stack([correlated_noise(SHAPE, 0.8, KERNELS[name], rng) for _ in range(60)])
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 2)):
        product = fields[:, : SHAPE[0] - dx, : SHAPE[1] - dy] * fields[:, dx:, dy:]
        assert product.mean() == pytest.approx(expected[dx, dy], abs=0.015), (dx, dy)


def test_noise_has_no_long_waves_and_sharp_kernels_have_more():
    rng = np.random.default_rng(5)
    means = [correlated_noise(SHAPE, 0.8, KERNELS["standard"], rng).mean() for _ in range(40)]
    assert np.std(means) < 0.1 / np.sqrt(SHAPE[0])
    assert noise_gain(KERNELS["soft"]) < noise_gain(KERNELS["standard"]) == 1.0 < noise_gain(KERNELS["sharp"])
    # The integral of f^2 exp(-2 (f / s)^2) goes with s^3.
    assert noise_gain(KERNELS["soft"]) == pytest.approx((0.6 / 0.7) ** 1.5, rel=1e-3)
