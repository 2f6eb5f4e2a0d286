"""Whether a model looks at bone: two measures of a saliency map and of the scores, by the bone that the CT projects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.data.pairs import PairRecord
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.estimate import Estimate
from hierbmd.evaluation.screening import auc_delong, auc_difference

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

Change = Literal["replace", "blur"]
"""What is done to an area: replaced by the median of the rest of the image, or blurred with an SD of BLUR_PX pixels."""

BLUR_PX = 8.0
_BLOB_PX = 6.0
"""The SD of the noise field whose highest places make the area outside bone: patches of some centimetres."""


def saliency_iou(saliency: NDArray[np.floating[Any]], bone: Mask) -> float:
    """Intersection over union of bone (H, W) and as many of the most salient pixels as bone has; 0 to 1.

    Pixels of saliency 0 or less are never among them; NaN where there is no bone. A map that knows nothing of bone has
    about `chance_iou`.
    """
    area = int(bone.sum())
    if area == 0:
        return float("nan")
    flat = saliency.ravel()
    best = np.argsort(-flat, kind="stable")[:area]
    chosen = np.zeros(flat.shape, dtype=bool)
    chosen[best[flat[best] > 0]] = True
    both = int(np.sum(chosen & bone.ravel()))
    return both / (area + int(chosen.sum()) - both)


def chance_iou(bone: Mask) -> float:
    """The IoU of bone with as many pixels anywhere: a / (2 - a) of the share a that is bone."""
    share = float(bone.mean())
    return share / (2.0 - share)


def changed(image: Image, area: Mask, how: Change) -> Image:
    """An image (H, W) with an area of it replaced or blurred; the rest is as it was."""
    if how == "blur":
        other: Any = ndimage.gaussian_filter(image, BLUR_PX, mode="nearest")
    else:
        other = np.float32(np.median(image[~area])) if not area.all() else np.float32(0.0)
    return np.where(area, other, image).astype(np.float32)


def area_outside(bone: Mask, seed: int) -> Mask:
    """Patches outside bone (H, W) of its area together, or all that is outside where bone covers over half.

    Drawn at random from the seed, smooth at the scale of bones, so that the two areas differ in place alone.
    """
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=bone.shape), _BLOB_PX)
    places = np.flatnonzero(~bone)
    chosen = places[np.argsort(-field.ravel()[places], kind="stable")[: int(bone.sum())]]
    area = np.zeros(bone.size, dtype=bool)
    area[chosen] = True
    return area.reshape(bone.shape)


@dataclass(frozen=True)
class BonePerturbation:
    """AUC as it is, and its change (perturbed less original) when bone, or as much outside it, is perturbed."""

    auc: Estimate
    bone: Estimate
    outside: Estimate
    bone_p: float | None
    outside_p: float | None

    def as_json(self) -> dict[str, Any]:
        """The figures for a result file."""
        return {
            "auc": self.auc.as_json(),
            "auc_change_bone": {**self.bone.as_json(), "p": self.bone_p},
            "auc_change_outside": {**self.outside.as_json(), "p": self.outside_p},
        }


def bone_perturbation(
    score: Callable[[Sequence[Image]], NDArray[np.float64]],
    images: Sequence[tuple[PairRecord, Image, Mask]],
    has_condition: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    *,
    how: Change = "replace",
    seed: int = 0,
) -> BonePerturbation:
    """How the AUC of a score changes when bone is perturbed, and when as much area outside bone is.

    `images` are records with their half image and bone (H, W); `score` gives (n,) numbers, higher in the patients that
    `has_condition` says of their lowest reference BMD (patients,) in g/cm2. A patient's score is the highest of the
    hips'. Intervals and p are DeLong's of paired areas.
    """
    records = [record for record, _, _ in images]
    outside = [area_outside(bone, seed + number) for number, (_, _, bone) in enumerate(images)]
    versions = (
        [image for _, image, _ in images],
        [changed(image, bone, how) for _, image, bone in images],
        [changed(image, area, how) for (_, image, _), area in zip(images, outside, strict=True)],
    )
    # Turned over a score is ordered as a BMD, and the lowest hip stands for the patient.
    by_patient = [Readings.of(records, list(-score(version))).by_patient() for version in versions]
    positive = has_condition(by_patient[0][1])
    original, in_bone, beside = (-read for read, _ in by_patient)
    bone_change, bone_p = auc_difference(in_bone, original, positive)
    outside_change, outside_p = auc_difference(beside, original, positive)
    return BonePerturbation(auc_delong(original, positive), bone_change, outside_change, bone_p, outside_p)
