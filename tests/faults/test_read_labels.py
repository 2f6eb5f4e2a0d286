"""Faults of label maps: each is refused in one line of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import (
    BadConfig,
    LabelsMismatch,
    UnreadableFile,
)
from hierbmd.geometry import Grid
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.labels import read_labels

GRID = Grid((12, 10, 8), np.diag([1.0, 1.0, 2.0, 1.0]))


def labels(grid: Grid) -> LabelMap:
    ids = np.zeros(grid.shape, dtype=np.uint8)
    ids[2:5, 3:6, 1:4] = 75
    return LabelMap(ids, grid)


def test_labels_that_do_not_overlap_their_ct(tmp_path: Path) -> None:
    grid = GRID
    write_labels(tmp_path / "labels.nii.gz", labels(grid))
    elsewhere = grid.world_from_index.copy()
    elsewhere[0, 3] = 500.0
    with pytest.raises(LabelsMismatch, match="does not overlap"):
        read_labels(tmp_path / "labels.nii.gz", onto=Grid(grid.shape, elsewhere))


@pytest.mark.parametrize("value", [-1.0, 0.5, 5e9])
def test_values_that_are_no_ids(tmp_path: Path, value: float) -> None:
    volume = Volume(np.zeros((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    volume.values[1, 1, 1] = value
    write_volume(tmp_path / "labels.nii.gz", volume)
    with pytest.raises(LabelsMismatch, match="not a label map"):
        read_labels(tmp_path / "labels.nii.gz")


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"femur": "75"}', '{"femur": 0}', '{"a": 1, "b": 1}', "nonsense"])
def test_schemes_that_are_none(tmp_path: Path, text: str) -> None:
    write_labels(tmp_path / "labels.nii.gz", labels(GRID))
    (tmp_path / "scheme.json").write_text(text)
    with pytest.raises(BadConfig, match=r"scheme\.json"):
        read_labels(tmp_path / "labels.nii.gz", scheme=tmp_path / "scheme.json")


def test_a_folder_is_no_label_map(series: Path) -> None:
    with pytest.raises(UnreadableFile, match="is a folder"):
        read_labels(series)
