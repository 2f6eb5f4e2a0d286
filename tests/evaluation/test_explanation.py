"""The two measures on models that are made to look at bone only, or to look away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hierbmd.data.pairs import PairRecord
from hierbmd.evaluation.explanation import (
    Image,
    Mask,
    area_outside,
    bone_perturbation,
    chance_iou,
    changed,
    saliency_iou,
)
from hierbmd.io.dataset import read_dataset


@pytest.fixture(scope="module")
def shown(hip_dataset: Path) -> list[tuple[PairRecord, Image, Mask]]:
    """Test images whose bone is as bright as its BMD, and whose surroundings are the darker the higher it is."""
    dataset = read_dataset(hip_dataset)
    found = []
    for record in dataset.of_split("test"):
        bone = np.any(dataset.load(record).bones > 0, axis=0)
        image = np.where(bone, 1.0 + record.bmd_g_cm2, 3.0 - record.bmd_g_cm2).astype(np.float32)
        found.append((record, image, bone))
    return found


def _perturbation(shown: Any, score: Callable[[Image, Mask], float], **settings: Any) -> Any:
    masks = [bone for _, _, bone in shown]

    def scores(images: Sequence[Image]) -> NDArray[np.float64]:
        return np.array([score(image, bone) for image, bone in zip(images, masks, strict=True)])

    return bone_perturbation(scores, shown, lambda low: low < np.median(low), **settings)


def test_a_model_that_looks_at_bone_only(shown: Any) -> None:
    found = _perturbation(shown, lambda image, bone: -float(image[bone].mean()))
    assert found.auc.value == 1.0
    # Bone becomes what surrounds it, darker in the patients with more of it: the order is turned over.
    assert found.bone.value == -1.0
    assert found.outside.value == 0.0
    assert [saliency_iou(np.where(bone, image, 0.0), bone) for _, image, bone in shown] == [1.0] * len(shown)


def test_a_model_that_looks_away(shown: Any) -> None:
    found = _perturbation(shown, lambda image, bone: float(image[~bone].mean()))
    assert found.auc.value == 1.0
    assert found.bone.value == 0.0
    assert [saliency_iou(np.where(bone, 0.0, image), bone) for _, image, bone in shown] == [0.0] * len(shown)


def test_blurring_spares_what_is_broad_and_takes_what_is_fine(shown: Any) -> None:
    def contrast(image: Image, bone: Mask) -> float:
        return -float(np.median(np.abs(np.diff(image, axis=0))[bone[1:]]))

    textured = [
        (record, image + np.where(bone, 0.5 * record.bmd_g_cm2 * (np.arange(len(image)) % 2)[:, None], 0.0), bone)
        for record, image, bone in shown
    ]
    found = _perturbation(textured, contrast, how="blur")
    assert found.auc.value == 1.0
    assert found.bone.value < -0.2
    _, image, bone = shown[0]
    flat = np.full_like(image, 2.0)
    assert np.allclose(changed(flat, bone, "blur"), 2.0)


def test_as_many_pixels_outside_as_bone_and_none_of_it(shown: Any) -> None:
    bone = shown[0][2]
    areas = [area_outside(bone, seed) for seed in range(3)]
    assert all(area.sum() == bone.sum() and not (area & bone).any() for area in areas)
    assert not np.array_equal(areas[0], areas[1])
    assert np.array_equal(areas[0], area_outside(bone, 0))
    most = np.ones_like(bone)
    most[:2] = False
    assert np.array_equal(area_outside(most, 0), ~most)


def test_iou_at_the_area_of_bone(shown: Any) -> None:
    bone = np.zeros((10, 10), dtype=bool)
    bone[:4] = True
    rows = np.repeat(np.arange(10.0), 10).reshape(10, 10)
    assert saliency_iou(-np.abs(rows - 3.5) + 10.0, bone) == pytest.approx(20 / 60)  # rows 2 to 5
    assert saliency_iou(np.zeros((10, 10)), bone) == 0.0
    assert np.isnan(saliency_iou(rows, np.zeros_like(bone)))
    random = np.random.default_rng(0).random((400, 10, 10))
    assert np.mean([saliency_iou(one, bone) for one in random]) == pytest.approx(chance_iou(bone), abs=0.01)
