"""Texture features of a region, as the Image Biomarker Standardisation Initiative (IBSI) defines them, by mirp."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import MissingExtra

FAMILIES = ("statistics", "cm", "rlm", "szm", "ngldm", "ngtdm")
"""First order, GLCM, GLRLM, GLSZM, NGLDM and NGTDM; pyradiomics calls IBSI's NGLDM the GLDM."""

LEAST_PIXELS = 16
"""Regions of fewer pixels have no texture."""

_PREFIXES = ("stat_", "cm_", "rlm_", "szm_", "ngl_", "ngt_")
_SETTINGS = re.compile(r"(_d1)?(_a0\.0)?_2d(_s_mrg)?_fbn_n\d+$")


def require_mirp() -> Any:
    """The library; MissingExtra says how to install it."""
    try:
        import mirp
    except ImportError as error:
        raise MissingExtra(f"texture features need mirp ({error})", mend="pip install 'hierbmd[radiomics]'") from None
    return mirp


def texture_features(
    pixels: NDArray[np.float32], region: NDArray[np.bool_], *, pixel_mm: tuple[float, float], bins: int
) -> dict[str, float]:
    """Texture features by name of an image (H, W) within a region (H, W) bool; empty for a region without texture.

    Two-dimensional (Zwanenburg et al., Radiology 2020, and the IBSI reference manual, arXiv 1612.07003): grey levels
    are a fixed number of bins between the region's extremes, so a linear change of the image's scale changes nothing
    but first-order statistics; co-occurrences and runs are merged over the four directions at distance 1; NGLDM's
    coarseness is 0. Names are mirp's without the settings, `cm_contrast` for instance. MissingExtra without mirp.
    """
    mirp = require_mirp()
    if int(region.sum()) < LEAST_PIXELS or np.ptp(pixels[region]) == 0:
        return {}
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(region))
    with _quiet():
        found = mirp.extract_features(
            image=pixels[box][None].astype(np.float32),
            mask=region[box][None],
            image_spacing=(1.0, pixel_mm[1], pixel_mm[0]),
            by_slice=True,
            base_feature_families=list(FAMILIES),
            base_discretisation_method="fixed_bin_number",
            base_discretisation_n_bins=bins,
        )[0]
    named = {_SETTINGS.sub("", name): float(found[name].iloc[0]) for name in found if name.startswith(_PREFIXES)}
    return dict(sorted(named.items()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without mirp's lines in the root logger, two for every image."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
