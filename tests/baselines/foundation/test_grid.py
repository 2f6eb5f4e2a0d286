"""The grid by its command: every model, one table, and a second call that trains nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hierbmd.baselines.foundation import grid
from hierbmd.baselines.foundation.base import RANDOM_NOTE
from hierbmd.baselines.foundation.presets import presets
from hierbmd.baselines.foundation.random_base import RANDOM_BASES
from hierbmd.cli.foundation_grid import PRESETS, RANDOM
from hierbmd.cli.main import main


@pytest.fixture(scope="module")
def arguments(low_dataset: Path, tiny_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A grid of two classes and two strategies."""
    out = tmp_path_factory.mktemp("grid") / "out"
    backbones = f"vit={tiny_base('random-vit')},clip={tiny_base('random-clip')}"
    given = ["--data", str(low_dataset), "--out", str(out), "--backbones", backbones]
    given += ["--strategies", "linear,lora"]
    return [
        *given,
        "--epochs",
        "1",
        "--maps",
        "2",
        "--steps",
        "2",
        "--bootstrap-samples",
        "100",
        "--accelerator",
        "cpu",
    ]


def test_one_command_gives_one_table(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["foundation-grid", *arguments]) == 0
    out = Path(capsys.readouterr().out.strip()).parent
    with (out / "grid.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["backbone"], row["strategy"]) for row in rows] == [
        (name, strategy) for name in ("vit", "clip") for strategy in ("linear", "lora")
    ]
    assert int(rows[0]["trainable_parameters"]) < int(rows[1]["trainable_parameters"])
    for row in rows:
        assert 0 <= float(row["auc_osteoporosis"]) <= 1
        assert 0 <= float(row["iou_rollout"]) <= 1
        assert float(row["rmse_g_cm2_low"]) <= float(row["rmse_g_cm2"]) <= float(row["rmse_g_cm2_high"])
        assert -1 <= float(row["auc_change_bone"]) <= 1
        assert row["weights"] == RANDOM_NOTE
        assert row["research_use_only"]
    found = json.loads((out / "grid.json").read_text())
    assert found["complete"]
    assert (out / "grid.png").stat().st_size > 10_000
    assert (out / "vit" / "lora" / "maps.png").stat().st_size > 10_000

    def never(*_: object, **__: object) -> None:
        raise AssertionError("figures are made again")

    monkeypatch.setattr(grid, "figures", never)
    assert main(["foundation-grid", *arguments]) == 0
    assert json.loads((out / "grid.json").read_text()) == found


def test_the_names_of_the_command_are_those_of_the_library() -> None:
    assert sorted(PRESETS) == sorted(presets())
    assert set(RANDOM) == set(RANDOM_BASES)
