"""A half image in a backbone's frame and back: where things land, and which configurations are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hierbmd.baselines.foundation.images import PROCESSOR_FILE, Aspect, ImageProcessing, read_processing
from hierbmd.errors import BadConfig


def _blob(row: float, column: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(32.0), indexing="ij")
    return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 32.0)[None, None]


def _processing(aspect: Aspect, size_px: tuple[int, int] = (56, 56)) -> ImageProcessing:
    return ImageProcessing(size_px, (0.0,) * 3, (1.0,) * 3, 56, True, aspect)


def _place(image: torch.Tensor) -> tuple[int, int]:
    index = int(image.reshape(-1).argmax())
    return index // image.shape[-1], index % image.shape[-1]


@pytest.mark.parametrize(
    ("aspect", "expected"),
    # 64 x 32 into 56 x 56: padded 56 x 28 at column 14; stretched; cropped 112 x 56 from row 28.
    [("pad", (31, 25)), ("stretch", (31, 22)), ("crop", (35, 22))],
)
def test_a_point_lands_where_the_aspect_puts_it_and_comes_back(aspect: Aspect, expected: tuple[int, int]) -> None:
    processing = _processing(aspect)
    prepared = processing.prepare(_blob(36, 13))
    assert prepared.shape == (1, 3, 56, 56)
    found = _place(prepared[0, 0])
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1
    back = processing.back(prepared[:, :1], (64, 32))
    assert back.shape == (1, 1, 64, 32)
    assert max(abs(a - b) for a, b in zip(_place(back[0, 0]), (36, 13), strict=True)) <= 1


def test_what_is_cut_off_has_no_saliency() -> None:
    back = _processing("crop").back(torch.ones(1, 1, 4, 4), (64, 32))
    assert back[0, 0, :14].abs().max() == 0
    assert back[0, 0, 24:40].min() == pytest.approx(1.0)
    wide = _processing("crop").back(torch.ones(1, 1, 4, 4), (32, 64))
    assert wide[0, 0, :, :14].abs().max() == 0
    assert wide[0, 0, :, 24:40].min() == pytest.approx(1.0)


def test_values_are_clipped_then_normalised_by_channel() -> None:
    processing = ImageProcessing((8, 8), (0.5, 0.4), (0.5, 0.2), 8, False, "stretch")
    prepared = processing.prepare(torch.full((1, 1, 8, 8), 1.4))
    assert prepared[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0])


_COMMON: dict[str, Any] = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}


@pytest.mark.parametrize(
    ("config", "size_px"),
    [
        ({"size": {"height": 224, "width": 192}}, (224, 192)),
        ({"size": 224}, (224, 224)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 224),
        ),
        ({"size": {"shortest_edge": 518}, "do_center_crop": True, "crop_size": 518}, (518, 518)),
    ],
)
def test_every_form_of_an_image_processor_is_read(
    config: dict[str, Any], size_px: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps({**_COMMON, **config}), encoding="utf-8")
    found = read_processing(tmp_path, 3, "pad")
    assert found.size_px == size_px
    assert (found.mean, found.sd) == ((0.5,) * 3, (0.2,) * 3)
    assert ImageProcessing.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("changes", [{"size": {"edge": 3}}, {"image_std": [0.0] * 3}, {"image_mean": [0.5, 0.5]}])
def test_an_unusable_image_processor_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps({"size": 224, **_COMMON, **changes}), encoding="utf-8")
    with pytest.raises(BadConfig, match=PROCESSOR_FILE):
        read_processing(tmp_path, 3, "pad")
    with pytest.raises(BadConfig, match="without its image processor"):
        read_processing(tmp_path / "nowhere", 3, "pad")
