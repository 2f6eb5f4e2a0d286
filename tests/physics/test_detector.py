"""Detector: noise follows dose, blur follows the focal spot and keeps the signal."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.physics import detector

PIXEL_MM = (0.15, 0.15)


def _relative_variance(dose_ugy, pixel_mm=PIXEL_MM):
    image = np.ones((300, 300), np.float32)
    everywhere = np.ones(image.shape, bool)
    quanta = detector.mean_quanta(image, pixel_mm, dose_ugy=dose_ugy, behind_patient=everywhere)
    noisy = detector.noisy(quanta, pixel_mm, np.random.default_rng(0))
    return float(noisy.var() / noisy.mean() ** 2), float(quanta.mean())


def test_noise_variance_falls_as_dose():
    low, high = _relative_variance(1.0)[0], _relative_variance(10.0)[0]
    assert low / high == pytest.approx(10.0, rel=0.08)


def test_noise_is_the_quanta_of_the_dose():
    """2.5 uGy are 30 000 / mm2 / uGy x 0.65 x 0.0225 mm2 x 2.5 = 1097 absorbed quanta an element."""
    variance, quanta = _relative_variance(2.5)
    assert quanta == pytest.approx(1096.9, rel=1e-3)
    expected = (quanta + detector.ELECTRONIC_QUANTA**2) / quanta**2
    assert variance == pytest.approx(expected, rel=0.03)


def test_binned_pixels_have_the_noise_of_their_area():
    fine, coarse = _relative_variance(2.5)[0], _relative_variance(2.5, (1.5, 1.5))[0]
    assert fine / coarse == pytest.approx(100.0, rel=0.05)


def test_blur_has_the_width_of_the_penumbra_and_keeps_the_sum():
    image = np.zeros((81, 81), np.float32)
    image[40, 40] = 1.0
    blurred = detector.blurred(image, (0.1, 0.1), focal_spot_mm=1.0, magnification=2.0, screen_mm=0.3)
    columns = (np.arange(81) - 40) * 0.1
    width_mm = np.sqrt(np.sum(blurred.sum(axis=0) * columns**2))
    assert blurred.sum() == pytest.approx(1.0, rel=1e-4)
    assert width_mm == pytest.approx(np.sqrt(1.0 / 12 + 0.09), rel=0.02)


def test_no_spot_and_no_screen_leave_the_image():
    image = np.random.default_rng(1).random((20, 30)).astype(np.float32)
    same = detector.blurred(image, (1.0, 1.0), focal_spot_mm=0.0, magnification=1.2, screen_mm=0.0)
    assert same == pytest.approx(image)


def test_an_edge_shows_the_modulation_transfer_of_the_model():
    """The line spread of a step, transformed, is the model at frequencies that the pixels hold."""
    step = np.zeros((8, 1024), np.float32)
    step[:, 512:] = 1.0
    line = np.diff(detector.with_mtf(step, (0.05, 0.05))[4].astype(np.float64))
    measured = np.abs(np.fft.rfft(line))
    frequencies = np.fft.rfftfreq(len(line), 0.05)
    band = (frequencies > 0.1) & (frequencies < 3.0)
    assert measured[band] == pytest.approx(detector.mtf(frequencies[band]), rel=0.01)
    assert detector.mtf(np.array([0.0, detector.MTF50_PER_MM])) == pytest.approx([1.0, 0.5])


def test_the_spread_of_light_keeps_the_signal_and_correlates_the_noise():
    quanta = np.full((256, 256), 2000.0, np.float32)
    white = detector.noisy(quanta, PIXEL_MM, np.random.default_rng(1))
    spread = detector.noisy(quanta, PIXEL_MM, np.random.default_rng(1), spread=True)
    assert spread.mean() == pytest.approx(white.mean(), rel=1e-4)
    frequencies = np.hypot(np.fft.fftfreq(256, 0.15)[:, None], np.fft.fftfreq(256, 0.15)[None, :])
    expected = np.mean(2000.0 * detector.mtf(frequencies) ** 2) + detector.ELECTRONIC_QUANTA**2
    assert spread.var() == pytest.approx(expected, rel=0.04)
    neighbours = np.corrcoef(spread[:, 1:].ravel(), spread[:, :-1].ravel())[0, 1]
    assert abs(np.corrcoef(white[:, 1:].ravel(), white[:, :-1].ravel())[0, 1]) < 0.02
    assert neighbours > 0.2


def test_elements_are_linear_until_they_are_full():
    full = detector.SATURATION_UGY * detector.QUANTA_PER_MM2_UGY * detector.ABSORBED_SHARE * 0.15**2
    quanta = np.array([[1.0, 0.99 * full, 1.5 * full]], np.float32)
    assert detector.saturated(quanta, PIXEL_MM)[0] == pytest.approx([1.0, 0.99 * full, full])
