"""From exposure to what a workstation shows: log, window, contrast curve, detail, clipping, bit depth; bone bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.simulation.multiscale import Multiscale, amplified

Image = NDArray[np.float32]


@dataclass(frozen=True)
class DisplayCurve:
    """One vendor's processing of one image.

    `low` and `high` are quantiles of the patient's log exposure that the window spans, `contrast` the steepness of the
    sigmoid (0 is a straight line), `detail` how much of the fine and middle bands is added, `bits` the depth. With
    `multiscale` the bands of a pyramid are amplified instead of `detail`.
    """

    low: float = 0.02
    high: float = 0.995
    contrast: float = 2.5
    detail: float = 0.3
    bits: int = 12
    multiscale: Multiscale | None = None


_WITHIN_SITE, _SITE_STREAM = 0.1, 0x517E


def draw_curve(rng: np.random.Generator, *, bits: int = 12, site: int | None = None) -> DisplayCurve:
    """A curve within what differs between vendors and settings.

    With a `site` the vendor's settings are that number's, and an image moves from them by a tenth of the whole range:
    a department's unit processes its hips alike, though not to the last digit.
    """
    share = rng.uniform(size=4)
    if site is not None:
        unit = np.random.default_rng([site, _SITE_STREAM]).uniform(size=4)
        share = np.clip(unit + _WITHIN_SITE * (share - 0.5), 0.0, 1.0)
    return DisplayCurve(
        low=float(0.05 * share[0]),
        high=float(0.985 + 0.015 * share[1]),
        contrast=float(1.0 + 3.0 * share[2]),
        detail=float(0.7 * share[3]),
        bits=bits,
    )


def displayed(
    absorbed: Image,
    patient: NDArray[np.bool_],
    pixel_mm: tuple[float, float],
    curve: DisplayCurve,
    *,
    field: NDArray[np.bool_] | None = None,
) -> Image:
    """Display values 0 to 2^bits - 1, (H, W) float32 of whole numbers, from log exposure `absorbed` (bone bright).

    The window is set by what `patient` holds. Vendors find the collimated `field` before they process: its edge is no
    structure to amplify, and what lies beside it is shown by the same window, bright where nothing came through.
    """
    filled = absorbed if field is None else filled_from_field(absorbed, field)
    if curve.multiscale is None:
        image = _with_detail(filled, pixel_mm, curve.detail)
    else:
        image = amplified(filled, pixel_mm, curve.multiscale)
    if field is not None:
        image = image + (absorbed - filled)
    values = _anatomy(image, patient)
    low, high = (float(q) for q in np.quantile(values, (curve.low, curve.high)))
    margin = 0.08 * (high - low)
    share = (image - (low - margin)) / max(high - low + 2 * margin, 1e-6)
    share = np.clip(share, 0.0, 1.0) if curve.contrast < 1e-6 else _sigmoid(share, curve.contrast)
    top = 2.0**curve.bits - 1.0
    return np.asarray(np.rint(np.clip(share, 0.0, 1.0) * top), dtype=np.float32)


def filled_from_field(absorbed: Image, field: NDArray[np.bool_]) -> Image:
    """What lies outside the field takes the value of the field's nearest pixel, so that its edge is no structure."""
    if field.all() or not field.any():
        return absorbed
    nearest = ndimage.distance_transform_edt(~field, return_distances=False, return_indices=True)
    return np.asarray(absorbed[tuple(nearest)])


def _anatomy(image: Image, patient: NDArray[np.bool_]) -> Image:
    """The values that the window is set by: thin edges and what the scan or the skin cuts off say nothing of bone."""
    values = image[patient] if patient.any() else image.ravel()
    thick = values[values > 0.45 * np.quantile(values, 0.98)]
    return np.asarray(thick if len(thick) else values)


def _with_detail(image: Image, pixel_mm: tuple[float, float], amount: float) -> Image:
    """Add a share of the bands between 0, 2 and 8 mm, compressed so that strong edges gain less than faint ones."""
    if amount <= 0:
        return image
    bands, before = np.zeros_like(image), image
    for sigma_mm in (2.0, 8.0):
        after = ndimage.gaussian_filter(image, (sigma_mm / pixel_mm[1], sigma_mm / pixel_mm[0]), mode="nearest")
        band = before - after
        bands += 0.12 * np.tanh(band / 0.12)
        before = after
    return np.asarray(image + amount * bands, dtype=np.float32)


def _sigmoid(share: Image, contrast: float) -> Image:
    """A logistic curve through (0, 0), (1/2, 1/2) and (1, 1)."""
    end = 1.0 / (1.0 + np.exp(contrast / 2.0))
    value = 1.0 / (1.0 + np.exp(-contrast * (np.clip(share, -0.2, 1.2) - 0.5)))
    return np.asarray((value - end) / (1.0 - 2.0 * end), dtype=np.float32)
