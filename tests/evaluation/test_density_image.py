"""Density-image figures against closed forms and an independent structural similarity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from hierbmd.evaluation.density_image import density_image_figures

PEAK_G_CM2 = 2.0


@pytest.fixture
def images():
    rows, columns = np.mgrid[:48, :32]
    true = np.clip(1.5 - ((rows - 24) ** 2 + (columns - 16) ** 2) / 100.0, 0, None).astype(np.float32)
    region = (rows > 20) & (rows < 30) & (columns > 10) & (columns < 20)
    return true, region


def ssim_naive(x, y, peak):
    """Wang et al. 2004 from the formula, with scipy's correlation: the map where the window fits."""
    places = np.arange(-5, 6)
    window = np.exp(-(places**2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(image):
        return correlate1d(correlate1d(image, window, axis=0), window, axis=1)[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))


def test_a_constant_offset_gives_its_closed_form_figures(images):
    true, region = images
    figures = density_image_figures(true + np.float32(0.1), true, region=region, peak_g_cm2=PEAK_G_CM2)
    assert figures.density_mae_g_cm2 == pytest.approx(0.1, rel=1e-5)
    assert figures.density_psnr_db == pytest.approx(20 * np.log10(PEAK_G_CM2 / 0.1), rel=1e-5)
    assert figures.region_bias_g_cm2 == pytest.approx(0.1, rel=1e-5)


def test_a_perfect_image_has_no_noise_to_compare(images):
    true, region = images
    figures = density_image_figures(true, true, region=region, peak_g_cm2=PEAK_G_CM2)
    assert figures.density_psnr_db is None
    assert figures.density_ssim == pytest.approx(1.0)
    assert figures.density_mae_g_cm2 == 0.0


def test_structural_similarity_follows_the_formula(images):
    from scipy.ndimage import binary_dilation

    true, region = images
    predicted = true + np.random.default_rng(0).normal(0, 0.1, true.shape).astype(np.float32)
    figures = density_image_figures(predicted, true, region=region, peak_g_cm2=PEAK_G_CM2)
    bone = binary_dilation(true > 0, iterations=5)[5:-5, 5:-5]
    naive = ssim_naive(predicted.astype(float), true.astype(float), PEAK_G_CM2)[bone].mean()
    assert figures.density_ssim == pytest.approx(naive, abs=1e-4)


def test_an_empty_frame_around_the_bone_does_not_flatter(images):
    true, region = images
    predicted = true + np.where(true > 0, np.float32(0.2), np.float32(0))
    wide = [np.pad(image, 40) for image in (predicted, true, region)]
    small = density_image_figures(predicted, true, region=region, peak_g_cm2=PEAK_G_CM2)
    large = density_image_figures(wide[0], wide[1], region=wide[2], peak_g_cm2=PEAK_G_CM2)
    assert large.density_psnr_db == pytest.approx(small.density_psnr_db, abs=0.2)
    assert large.density_mae_g_cm2 == pytest.approx(small.density_mae_g_cm2, rel=0.05)


def test_a_region_that_is_not_seen_has_no_bias(images):
    true, region = images
    figures = density_image_figures(true, true, region=np.zeros_like(region), peak_g_cm2=PEAK_G_CM2)
    assert figures.region_bias_g_cm2 is None
