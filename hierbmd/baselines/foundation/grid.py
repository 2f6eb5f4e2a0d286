"""Backbones x strategies: every foundation model trained alike, and one table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hierbmd.baselines.foundation import NAME, Options, fit
from hierbmd.baselines.foundation.base import require_extra
from hierbmd.baselines.foundation.figures import Explained, ExplainOptions, figures
from hierbmd.baselines.foundation.network import Strategy
from hierbmd.baselines.foundation.predictor import FoundationPredictor, load_foundation
from hierbmd.baselines.registry import Progress, silent
from hierbmd.data.card import ModelCard
from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.errors import BadConfig
from hierbmd.evaluation.files import versions
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.io.atomic import read_json, write_json
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.io.tables import write_table

GRID_FILE, TABLE_FILE, PLOT_FILE, FIGURES_FILE, MAPS_FILE = (
    "grid.json",
    "grid.csv",
    "grid.png",
    "figures.json",
    "maps.png",
)
FIGURES = (
    "auc_osteoporosis",
    "pearson_r",
    "rmse_g_cm2",
    "auc_change_bone",
    "auc_change_outside",
    "iou_rollout",
    "iou_integrated_gradients",
    "iou_chance",
)
"""The figures of a row, each with its interval."""


@dataclass(frozen=True)
class Grid:
    """What is trained: `backbones` by name or NAME=FOLDER, each with every strategy, otherwise as `training` says."""

    backbones: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    training: Options
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    explain: ExplainOptions = field(default_factory=ExplainOptions)


def run_grid(data: Path, out: Path, grid: Grid, *, progress: Progress = silent) -> list[dict[str, Any]]:
    """Train and read every model of a grid into `out`/BACKBONE/STRATEGY, or go on; returns the rows of the table.

    `out` receives grid.json, grid.csv and grid.png after every model. Errors: BadConfig (no grid), and as `fit`.
    """
    from hierbmd.report.foundation import plot_grid, plot_maps

    require_extra()
    named = dict(_named(text) for text in grid.backbones)
    if len(named) < len(grid.backbones) or not named or not grid.strategies:
        raise BadConfig("no grid", where=f"backbones {grid.backbones}", mend="one name each: NAME=FOLDER gives one")
    dataset = read_dataset(data)
    rows: list[dict[str, Any]] = []
    for name, backbone, strategy in _cells(named, grid.strategies):
        folder = out / name / strategy
        begun = time.monotonic()
        card = fit(data, folder, replace(grid.training, backbone=backbone, strategy=strategy), progress=progress)
        found = _stored(folder, card, dataset, grid)
        if found is None:
            predictor = load_foundation(folder)
            found, explained = _figures(predictor, dataset, grid, progress)
            plot_maps(folder / MAPS_FILE, explained, pixel_mm=dataset.card.frame.pixel_mm, note=_note(card))
            found |= {"seconds": round(time.monotonic() - begun, 1)}
            write_json(folder / FIGURES_FILE, found)
        rows.append(_row(name, strategy, card, found))
        _write(out, rows, grid, complete=len(rows) == len(named) * len(grid.strategies))
        plot_grid(out / PLOT_FILE, rows, simulated=dataset.card.simulated)
    return rows


def _named(text: str) -> tuple[str, str]:
    name, equals, backbone = text.partition("=")
    return (name, backbone) if equals else (Path(text).name, text)


def _cells(named: Mapping[str, str], strategies: Sequence[Strategy]) -> Iterator[tuple[str, str, Strategy]]:
    return ((name, backbone, strategy) for name, backbone in named.items() for strategy in strategies)


def _made_of(card: ModelCard, dataset: Dataset, grid: Grid) -> dict[str, Any]:
    """What figures depend on: they are made again when any of it is another."""
    return {
        "model_sha256": card.sha256,
        "test_sha256": dataset.digest(grid.evaluation.split),
        "evaluation": asdict(grid.evaluation),
        "explain": asdict(grid.explain),
    }


def _stored(folder: Path, card: ModelCard, dataset: Dataset, grid: Grid) -> dict[str, Any] | None:
    path = folder / FIGURES_FILE
    found: dict[str, Any] | None = read_json(path) if path.is_file() else None
    made_of = _made_of(card, dataset, grid)
    return found if found is not None and found.get("made_of") == made_of else None


def _figures(
    predictor: FoundationPredictor, dataset: Dataset, grid: Grid, progress: Progress
) -> tuple[dict[str, Any], list[Explained]]:
    found, explained = figures(predictor, dataset, grid.evaluation, grid.explain, progress=progress)
    return {**found, "made_of": _made_of(predictor.card, dataset, grid), "versions": versions()}, explained


def _note(card: ModelCard) -> str:
    said = [card.training["base_weights"]] if card.network["base"]["note"] else []
    return ", ".join([*said, *(["simulated data"] if card.simulated else []), RESEARCH_USE_ONLY])


def _row(name: str, strategy: str, card: ModelCard, found: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "backbone": name,
        "class": card.network["base"]["config"]["model_type"],
        "weights": card.training["base_weights"],
        "strategy": strategy,
        "trainable_parameters": card.training["trainable_parameters"],
        "train_patients": card.training["train_patients"],
        "test_patients": found["n_patients"],
        "seconds": found["seconds"],
    }
    for figure in FIGURES:
        value = found[figure]
        row |= {figure: value["value"], f"{figure}_low": value["low"], f"{figure}_high": value["high"]}
        row |= {f"{figure}_reason": value["reason"]} if "reason" in value else {}
    return row


def _write(out: Path, rows: Sequence[Mapping[str, Any]], grid: Grid, *, complete: bool) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row if not name.endswith("_reason")))
    note = {"research_use_only": RESEARCH_USE_ONLY}
    write_table(out / TABLE_FILE, [*columns, *note], [{**row, **note} for row in rows])
    told = {
        "system": NAME,
        "models": list(rows),
        "complete": complete,
        "split": grid.evaluation.split,
        "reference": grid.evaluation.reference,
        "change": grid.explain.change,
        **note,
    }
    write_json(out / GRID_FILE, told)
