"""How well a carried label lies on bone, by what the target CT itself shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.shape import Mask
from hierbmd.errors import LabelsMismatch
from hierbmd.geometry import Grid

_BONE_HU = 200.0
_STEP_MM = 3.0
LEAST_RISE_HU = 60.0
"""The rise of HU into the label, over 6 mm across its edge, below which a label is refused: muscle against fat."""


def bone_quality(hu: NDArray[np.float32], mask: Mask, grid: Grid, distance_mm: NDArray[np.float32]) -> dict[str, Any]:
    """Rise of HU across the edge (mean of 3 mm inside less 3 mm outside), share of bone in the label, edge shift, mm.

    `distance_mm` is the signed distance before refinement: `moved_mm` says how far refinement moved the edge (median).
    """
    if not mask.any():
        return {"edge_rise_hu": 0.0, "bone_share": 0.0, "moved_mm": None}
    inner = mask & (ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm) <= _STEP_MM)
    outer = ~mask & (ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm) <= _STEP_MM)
    edge = mask & ~ndimage.binary_erosion(mask)
    return {
        "edge_rise_hu": round(float(hu[inner].mean() - hu[outer].mean()), 1),
        "bone_share": round(float(np.mean(hu[mask] > _BONE_HU)), 4),
        "moved_mm": round(float(np.median(np.abs(distance_mm[edge]))), 2),
    }


def require_quality(bones: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise LabelsMismatch when a carried bone does not lie on bone: its edge shows no rise of HU."""
    for name, one in bones.items():
        if one["edge_rise_hu"] < LEAST_RISE_HU:
            raise LabelsMismatch(
                f"the atlas does not fit: HU rise by {one['edge_rise_hu']:.0f} into {name}, {LEAST_RISE_HU:.0f} needed",
                mend="an atlas of a similar patient and field of view, or several",
            )
