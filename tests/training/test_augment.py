"""Augmentation: seeded, the same motion for all images, densities kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hierbmd.errors import BadConfig
from hierbmd.training.augment import Augmentation, Compression, make_augment

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
    augment = make_augment(replace(NOTHING, **{name: getattr(Augmentation(), name)}))
    changed: list[Any] = [augment(_sample(), seed)["radiograph"] for seed in range(6)]
    assert any(not np.allclose(image, _sample()["radiograph"], atol=1e-5) for image in changed)


def test_switched_off_it_changes_nothing() -> None:
    sample = _sample()
    assert make_augment(NOTHING)(sample, 1) is sample


def test_compression_is_the_codecs_own_and_leaves_the_targets() -> None:
    from hierbmd.io.codecs import through_jpeg

    sample = _sample()
    always = Compression(1.0, jpeg_quality=(40, 40), jpeg2000_ratio=(3.0, 5.0))
    seen = [make_augment(replace(NOTHING, compression=always))(_sample(), seed) for seed in range(8)]
    low, high = sample["radiograph"].min(), sample["radiograph"].max()
    grey = np.rint((sample["radiograph"][0] - low) / (high - low) * 255.0).astype(np.uint8)
    expected = low + through_jpeg(grey, 40) / 255.0 * (high - low)
    jpegs = [one for one in seen if np.allclose(one["radiograph"][0], expected, atol=1e-5)]
    assert 0 < len(jpegs) < 8  # the others went through JPEG 2000
    for one in seen:
        error = np.abs(one["radiograph"] - sample["radiograph"])
        assert 0.0 < error.max() < 0.15 * (high - low)
        assert all(np.array_equal(one[name], sample[name]) for name in ("bones", "region", "mask"))


def test_compression_draws_from_its_ranges_by_the_seed() -> None:
    options = Compression(0.25, jpeg_quality=(30, 33), jpeg2000_ratio=(5.0, 40.0))
    random = np.random.RandomState(0)
    drawn = [options.drawn(random) for _ in range(2000)]
    names = [one.name for one in drawn if one is not None]
    assert len(names) == pytest.approx(500, abs=60)
    assert {name for name in names if "2000" not in name} == {f"jpeg {q}" for q in (30, 31, 32, 33)}
    ratios = [one.level for one in drawn if one is not None and "2000" in one.name]
    assert 5.0 <= min(ratios) < 6.0
    assert 35.0 < max(ratios) <= 40.0
    assert np.median(ratios) == pytest.approx(np.sqrt(5.0 * 40.0), rel=0.15)
    again = make_augment(replace(NOTHING, compression=options))
    assert np.array_equal(again(_sample(), 4)["radiograph"], again(_sample(), 4)["radiograph"])


def test_without_compression_the_other_draws_are_what_they_were() -> None:
    plain, compressed = Augmentation(), Augmentation(compression=Compression(0.0))
    a, b = (make_augment(options)(_sample(), 9)["radiograph"] for options in (plain, compressed))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"jpeg_quality": (95, 30)}, {"jpeg2000_ratio": (0.5, 4.0)}])
def test_compression_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="compression out of range"):
        Compression(**wrong)
