"""What the detector adds: blur of focal spot and screen, quantum noise, electronic noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

QUANTA_PER_MM2_UGY = 30_000.0
"""Photons per mm2 and microgray of detector air kerma for a general-radiography beam: 30 174 for RQA5 (IEC 62220-1)."""

ABSORBED_SHARE = 0.65
"""Zero-frequency quantum efficiency of a CsI flat panel (0.6-0.7, Samei & Flynn, Med Phys 2003; unverified)."""

ELECTRONIC_QUANTA = 5.0
"""Electronic noise per detector element of 0.15 mm as an equivalent number of absorbed quanta (standard deviation)."""

ELEMENT_MM = 0.15


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


def mean_quanta(
    image: Image, pixel_mm: tuple[float, float], *, dose_ugy: float, behind_patient: NDArray[np.bool_]
) -> Image:
    """Absorbed quanta per pixel, (H, W), when automatic exposure gives a mean dose of `dose_ugy` behind the patient."""
    reference = float(image[behind_patient].mean()) if behind_patient.any() else float(image.mean())
    per_pixel = dose_ugy * QUANTA_PER_MM2_UGY * ABSORBED_SHARE * pixel_mm[0] * pixel_mm[1]
    return np.asarray(image * np.float32(per_pixel / max(reference, 1e-9)), dtype=np.float32)


def noisy(quanta: Image, pixel_mm: tuple[float, float], rng: np.random.Generator) -> Image:
    """Poisson noise of the absorbed quanta and Gaussian electronic noise of its elements, in quanta, (H, W)."""
    elements = pixel_mm[0] * pixel_mm[1] / ELEMENT_MM**2
    electronic = rng.normal(0.0, ELECTRONIC_QUANTA * np.sqrt(elements), quanta.shape)
    return np.asarray(rng.poisson(quanta) + electronic, dtype=np.float32)
