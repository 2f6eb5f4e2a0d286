"""kill -9 of a training process: the same command goes on, and ends with the same weights bit for bit (FAULTS 31).

SIGTERM is answered after the step at hand, and not with the status of a run that is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hierbmd.data.card import Stage
from hierbmd.io.weights import read_weights
from hierbmd.training.run import STAGES

TEN_POINTS = (
    ["step", 0],
    ["write", "last.ckpt", "half"],
    ["step", 3],
    ["write", "last.ckpt", "after"],
    ["step", 7],
    ["write", "curves.csv", "half"],
    ["step", 13],
    ["write", "last.ckpt", "before"],
    ["write", "weights.safetensors", "after"],
    ["write", "card.json", "half"],
)
"""Of a run of four epochs of five steps: before steps, within the writes of an epoch's end, and of the export's."""


def _tasks(
    stages: tuple[Stage, ...], data: Path, out: Path, runs: dict[str, Path], points: tuple[list[Any], ...], epochs: int
) -> list[dict[str, Any]]:
    """The runs of stages, each twice: without a kill as STAGE-whole, and killed as STAGE-torn."""
    tasks = []
    for stage in stages:
        settings: dict[str, Any] = {"trainer.max_epochs": epochs, "trainer.accelerator": "cpu", "data.batch_size": 8}
        settings |= {"samples_every": 0, "trainer.check_val_every_n_epoch": 5}
        if stage in ("pretrain", "decompose"):
            settings |= {"model.generator.init_args.widths": [4, 8], "model.generator.init_args.dropout": 0.1}
        if stage in ("decompose", "synthesize"):
            settings |= {"model.discriminator.layers": 1, "model.discriminator.filters": 4}
        start = {"synthesize": runs["decompose"], "regress": runs["synthesize"]}.get(stage)
        common = {"stage": stage, "data": str(data), "settings": settings, "start": start and str(start)}
        tasks.append({**common, "out": str(out / f"{stage}-whole"), "points": []})
        tasks.append({**common, "out": str(out / f"{stage}-torn"), "points": list(points)})
    return tasks


def _killed(tasks: list[dict[str, Any]]) -> list[str]:
    """Run the tasks; returns what the script says of each kill."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("kills.py")), json.dumps(tasks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def _require_same(out: Path, stage: str) -> None:
    (whole, card), (torn, _) = (read_weights(out / f"{stage}-{name}") for name in ("whole", "torn"))
    assert card.stage == stage
    assert whole.keys() == torn.keys()
    assert all(torch.equal(whole[name], torn[name]) for name in whole), stage
    curves = [(out / f"{stage}-{name}" / "curves.csv").read_text() for name in ("whole", "torn")]
    assert curves[0] == curves[1]


def test_every_stage_survives_sigterm_and_a_kill_within_its_checkpoint(
    readable_dataset: Path, tmp_path: Path, tiny_runs: dict[str, Path]
) -> None:
    points = (["terminate", 6], ["write", "last.ckpt", "half"])
    said = _killed(_tasks(STAGES, readable_dataset, tmp_path, tiny_runs, points, epochs=2))
    assert said == [line for stage in STAGES for line in (f"{stage} terminate 6 1", f"{stage} write last.ckpt half 1")]
    for stage in STAGES:
        _require_same(tmp_path, stage)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_survives_ten_kills_bit_for_bit(
    stage: Stage, readable_dataset: Path, tmp_path: Path, tiny_runs: dict[str, Path]
) -> None:
    said = _killed(_tasks((stage,), readable_dataset, tmp_path, tiny_runs, TEN_POINTS, epochs=4))
    assert [int(line.split()[-1]) for line in said] == [0, 0, 0, 1, 1, 1, 2, 2, 4, 4]
    _require_same(tmp_path, stage)
