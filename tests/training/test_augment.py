"""Augmentation: seeded, the same motion for all images, densities kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hierbmd.training.augment import Augmentation, make_augment

NOTHING = Augmentation(rotate_deg=0, shift_px=0, scale=0, gamma=0, exposure=0, noise=0, blur_px=0, background=0)


def _sample() -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[:48, :40]
    blob = np.clip(1.0 - ((rows - 24) ** 2 + (columns - 18) ** 2) / 90.0, 0, None).astype(np.float32)
    mask = (blob > 0).astype(np.float32)
    return {
        "radiograph": blob[None] * 0.7 + 0.1,
        "bones": np.stack([blob, 0.5 * blob]),
        "region": blob[None],
        "mask": mask[None],
    }


def test_the_same_seed_gives_the_same_sample_whatever_came_before() -> None:
    augment = make_augment(Augmentation())
    first = augment(_sample(), 5)
    augment(_sample(), 6)
    again = augment(_sample(), 5)
    other = augment(_sample(), 6)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["radiograph"], other["radiograph"])
    assert not np.array_equal(first["region"], other["region"])


def test_motion_is_shared_and_keeps_areal_density() -> None:
    only_motion = Augmentation(
        rotate_deg=10, shift_px=6, scale=0.1, gamma=0, exposure=0, noise=0, blur_px=0, background=0
    )
    moved = make_augment(only_motion)(_sample(), 3)
    sample = _sample()
    assert not np.allclose(moved["region"], sample["region"], atol=0.05)
    inside = moved["mask"] > 0.99
    # The radiograph was 0.7 * region + 0.1 before, and is so after: one motion moved both.
    assert np.allclose(moved["radiograph"][inside], 0.7 * moved["region"][inside] + 0.1, atol=1e-4)
    assert np.allclose(moved["bones"][0], moved["region"][0], atol=1e-6)
    before = sample["region"].sum() / sample["mask"].sum()
    after = moved["region"].sum() / moved["mask"].sum()
    assert after == pytest.approx(before, rel=0.02)


def test_targets_are_never_touched_by_exposure_and_noise() -> None:
    only_exposure = Augmentation(
        rotate_deg=0, shift_px=0, scale=0, gamma=0.3, exposure=0.2, noise=0.05, blur_px=0.5, background=0.1
    )
    changed = make_augment(only_exposure)(_sample(), 8)
    sample = _sample()
    assert not np.array_equal(changed["radiograph"], sample["radiograph"])
    assert all(np.array_equal(changed[name], sample[name]) for name in ("bones", "region", "mask"))


@pytest.mark.parametrize(
    "name", ["gamma", "exposure", "noise", "blur_px", "rotate_deg", "shift_px", "scale", "background"]
)
def test_each_switch_does_something(name: str) -> None:
    from dataclasses import replace

    augment = make_augment(replace(NOTHING, **{name: getattr(Augmentation(), name)}))
    changed: list[Any] = [augment(_sample(), seed)["radiograph"] for seed in range(6)]
    assert any(not np.allclose(image, _sample()["radiograph"], atol=1e-5) for image in changed)


def test_switched_off_it_changes_nothing() -> None:
    sample = _sample()
    assert make_augment(NOTHING)(sample, 1) is sample
