"""What the detector adds: blur of focal spot and screen, quantum noise, electronic noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

QUANTA_PER_MM2_UGY = 30_000.0
"""Photons per mm2 and microgray of detector air kerma for a general-radiography beam: 30 174 for RQA5 (IEC 62220-1);
the committed spectra give 29 200 (tested)."""

ABSORBED_SHARE = 0.65
"""Zero-frequency quantum efficiency of a CsI flat panel: 0.60 at 0.5/mm was measured on six detectors at 70 kVp with
1 mm of copper (Marshall et al., Phys Med Biol 2011, abstract), and it rises towards zero. The screen of `spectrum.py`
absorbs 0.85 of RQA5's photons (tested); the spread of light per photon takes the rest."""

ELECTRONIC_QUANTA = 5.0
"""Electronic noise per detector element of 0.15 mm as an equivalent number of absorbed quanta (standard deviation): an
assumption, a few hundred electrons at about 100 electrons a quantum."""

ELEMENT_MM = 0.15

MTF50_PER_MM = 1.29
"""Where the modulation transfer of a CsI panel is a half: 1.29 +- 0.05 /mm on six detectors (Marshall et al. 2011)."""

SATURATION_UGY = 60.0
"""The detector air kerma at which a panel's elements are full: an assumption, flat panels bear some tens of uGy."""

GAIN_RESIDUAL = 0.003
"""Standard deviation of what flat-field correction leaves of the elements' unequal gain: an assumption."""


def blurred(
    image: Image, pixel_mm: tuple[float, float], *, focal_spot_mm: float, magnification: float, screen_mm: float
) -> Image:
    """The image after the focal spot's penumbra and the screen's light spread, both taken as Gaussian, (H, W).

    `focal_spot_mm` is the spot's nominal width, whose image is (magnification - 1) times as wide and has a standard
    deviation of a uniform width's, w / sqrt(12); `screen_mm` is the standard deviation of the screen's spread.
    """
    spot_mm = focal_spot_mm * (magnification - 1.0) / np.sqrt(12.0)
    sigma_mm = float(np.hypot(spot_mm, screen_mm))
    return np.asarray(ndimage.gaussian_filter(image, (sigma_mm / pixel_mm[1], sigma_mm / pixel_mm[0]), mode="nearest"))


def mtf(per_mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """The modulation transfer of the screen and its elements at spatial frequencies in 1/mm.

    A Lorentzian through 1 and the measured half, 1 / (1 + (f / MTF50)^2): its tails are long, as a screen's are; the
    shape between is not a measurement.
    """
    return np.asarray(1.0 / (1.0 + (np.asarray(per_mm) / MTF50_PER_MM) ** 2))


def with_mtf(image: Image, pixel_mm: tuple[float, float]) -> Image:
    """The image after the spread of `mtf`, alike in all directions, mirrored at its borders, (H, W)."""
    height, width = image.shape
    mirrored = np.pad(image, ((0, height), (0, width)), mode="symmetric")
    along, across = np.fft.fftfreq(2 * height, pixel_mm[1]), np.fft.rfftfreq(2 * width, pixel_mm[0])
    transfer = mtf(np.hypot(along[:, None], across[None, :]))
    spread = np.fft.irfft2(np.fft.rfft2(mirrored.astype(np.float64)) * transfer, mirrored.shape)
    return np.asarray(spread[:height, :width], dtype=np.float32)


def saturated(quanta: Image, pixel_mm: tuple[float, float]) -> Image:
    """The quanta that the elements can tell of, (H, W): linear up to SATURATION_UGY, then full."""
    full = SATURATION_UGY * QUANTA_PER_MM2_UGY * ABSORBED_SHARE * pixel_mm[0] * pixel_mm[1]
    return np.minimum(quanta, np.float32(full))


def mean_quanta(
    image: Image, pixel_mm: tuple[float, float], *, dose_ugy: float, behind_patient: NDArray[np.bool_]
) -> Image:
    """Absorbed quanta per pixel, (H, W), when automatic exposure gives a mean dose of `dose_ugy` behind the patient."""
    reference = float(image[behind_patient].mean()) if behind_patient.any() else float(image.mean())
    per_pixel = dose_ugy * QUANTA_PER_MM2_UGY * ABSORBED_SHARE * pixel_mm[0] * pixel_mm[1]
    return np.asarray(image * np.float32(per_pixel / max(reference, 1e-9)), dtype=np.float32)


def noisy(quanta: Image, pixel_mm: tuple[float, float], rng: np.random.Generator, *, spread: bool = False) -> Image:
    """Poisson noise of the absorbed quanta and Gaussian electronic noise of its elements, in quanta, (H, W).

    With `spread` each quantum's light goes the way of `mtf`, which blurs the image and makes the quantum noise, not the
    electronic, correlate between neighbours.
    """
    elements = pixel_mm[0] * pixel_mm[1] / ELEMENT_MM**2
    electronic = rng.normal(0.0, ELECTRONIC_QUANTA * np.sqrt(elements), quanta.shape)
    counted = rng.poisson(quanta)
    light = with_mtf(counted.astype(np.float32), pixel_mm) if spread else counted
    return np.asarray(light + electronic, dtype=np.float32)
