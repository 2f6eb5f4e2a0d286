"""Self-supervised pretraining: what is hidden, what it learns, and that stage 1 starts from it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hierbmd.stages.pretrain import Masking

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import BadConfig, SplitLeak
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import read_dataset
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.radiograph import read_radiograph
from hierbmd.io.weights import read_weights
from hierbmd.training.run import train
from hierbmd.training.unpaired import read_unpaired

SMALL: dict[str, Any] = {
    "model.generator.init_args.widths": [4, 8],
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": 6,
    "samples_every": 0,
}


@pytest.fixture
def unpaired(tmp_path: Path) -> Path:
    """A folder with a bilateral radiograph, a one-sided one in a subfolder, and a file that is none."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "unpaired"
    for name, width, side in (("a.dcm", 64, Side.BOTH), ("more/b.dcm", 32, Side.RIGHT)):
        pixels = rng.normal(2.0, 0.3, (64, width)).astype(np.float32)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_radiograph_dicom(folder / name, Radiograph(pixels, (3.0, 3.0), 1000.0, 900.0, View.AP, side))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_whole_patches_are_hidden_in_the_share_asked() -> None:
    hidden = Masking(0.25, 8).hidden(torch.zeros(64, 1, 52, 36), torch.Generator().manual_seed(0))
    assert hidden.shape == (64, 1, 52, 36)
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.03)
    block = hidden[:, :, 8:16, 16:24].flatten(1)
    assert torch.equal(block.all(dim=1), block.any(dim=1))
    with pytest.raises(BadConfig, match="masking out of range"):
        Masking(1.0)


def test_it_learns_from_both_kinds_and_stage_1_starts_from_it(
    readable_dataset: Path, unpaired: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "model.radiographs": unpaired, "model.masking.patch_px": 8}
    run = tmp_path / "pretrain"
    card = train("pretrain", readable_dataset, run, overrides=settings, progress=False)
    assert card.structures == ("radiograph",)
    with (run / "curves.csv").open() as stream:
        curve = [float(row["train/l1"]) for row in csv.DictReader(stream)]
    assert sum(curve[-3:]) / 3 <= 0.8 * curve[0]
    assert str(unpaired) not in (run / "card.json").read_text() + (run / "run.json").read_text()
    first = {**SMALL, "trainer.max_epochs": 1, "model.optimizer.init_args.lr": 0.0}
    first |= {"model.discriminator.filters": 4, "model.discriminator.layers": 1}
    train("decompose", readable_dataset, tmp_path / "one", start_from=run, overrides=first, progress=False)
    before, after = read_weights(run)[0], read_weights(tmp_path / "one")[0]
    weights = [n for n in before if n.startswith("network.generator") and n.endswith("weight")]
    assert weights
    assert all(torch.equal(before[name], after[name]) for name in weights)


def test_a_held_out_radiograph_is_refused(readable_dataset: Path, unpaired: Path) -> None:
    from dataclasses import replace

    dataset = read_dataset(readable_dataset)
    sha256 = pixels_sha256(read_radiograph(unpaired / "a.dcm").pixels)
    held_out = [replace(dataset.of_split("test")[0], radiograph_sha256=sha256)]
    with pytest.raises(SplitLeak, match=r"a\.dcm is p12_left_0"):
        read_unpaired(unpaired, dataset.card, held_out)
    sides = read_unpaired(unpaired, dataset.card, [])
    assert [side.name for side in sides] == ["a.dcm left", "a.dcm right", "b.dcm right"]
    assert all(side.pixels.shape == (64, 32) for side in sides)
