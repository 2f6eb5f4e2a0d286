"""What an evaluation leaves: metrics.json, figures.csv, predictions.csv, and the density images that a report shows."""

from __future__ import annotations

import csv
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hierbmd.data.card import ModelCard
from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.evaluation.run import Evaluation
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.image import write_mha_image
from hierbmd.io.tables import write_table

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
FIGURES_FILE = "figures.csv"
FIGURE_COLUMNS = ("figure", "unit", "value", "low", "high", "reason")


def density_file(folder: str | Path, row: int) -> Path:
    """Where the predicted density image of a row of predictions.csv is (the first row is 1); no patient's id in it."""
    return Path(folder) / "density" / f"row_{row:04d}.mha"


def write_evaluation(
    folder: str | Path, evaluation: Evaluation, *, model: ModelCard, extra: Mapping[str, Any] | None = None
) -> None:
    """Write an evaluation's files, metrics.json last, with the model's name and hash, the versions and `extra` in it.

    Density images of an earlier evaluation in the folder are removed. OutputUnwritable when it cannot be written.
    """
    folder = Path(folder)
    for stale in (folder / "density").glob("row_*.mha"):
        stale.unlink()
    for row, record in enumerate(evaluation.rows, start=1):
        if density := evaluation.shown.get(record["pair_id"]):
            note = {"unit": "g/cm2", "material": density.material.value, "region": density.region}
            write_mha_image(
                density_file(folder, row),
                density.areal_g_cm2,
                pixel_mm=density.pixel_mm,
                metadata={**note, "research_use_only": RESEARCH_USE_ONLY},
            )
    made_with = {"model": model.name, "model_sha256": model.sha256, "versions": versions()}
    write_figures(folder, {**evaluation.metrics, **made_with, **(extra or {})}, evaluation.rows)


def write_figures(folder: str | Path, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write predictions.csv, a row for each reading, figures.csv and, last, metrics.json."""
    folder = Path(folder)
    _write_rows(folder / PREDICTIONS_FILE, rows)
    write_table(folder / FIGURES_FILE, FIGURE_COLUMNS, list(figure_rows(metrics)))
    write_json(folder / METRICS_FILE, dict(metrics))


def figure_rows(value: Any, path: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Every figure in nested results with where it stands; a list's items go by their system, name and size."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        yield {"figure": "/".join(path), **value}
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from figure_rows(part, (*path, key))
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, Mapping):
                named = (str(part[key]) for key in ("system", "name", "patients") if key in part)
                yield from figure_rows(part, (*path, *named))


def versions() -> dict[str, str]:
    """The versions that a result depends on: Python's, this package's and those of the libraries that compute."""
    packages = ("hierbmd", "torch", "monai", "numpy", "scipy", "scikit-learn", "SimpleITK")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if x is None else x for name, x in row.items()} for row in rows)
