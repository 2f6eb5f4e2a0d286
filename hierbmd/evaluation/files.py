"""What an evaluation leaves: metrics.json, predictions.csv, and the density images that a report shows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.evaluation.run import Evaluation
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.image import write_mha_image

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"


def density_file(folder: str | Path, row: int) -> Path:
    """Where the predicted density image of a row of predictions.csv is (the first row is 1); no patient's id in it."""
    return Path(folder) / "density" / f"row_{row:04d}.mha"


def write_evaluation(folder: str | Path, evaluation: Evaluation, *, made_with: dict[str, Any]) -> None:
    """Write an evaluation's files, metrics.json last; `made_with` says what model and versions, and is added to it."""
    folder = Path(folder)
    _write_rows(folder / PREDICTIONS_FILE, evaluation)
    for row, record in enumerate(evaluation.rows, start=1):
        if density := evaluation.shown.get(record["pair_id"]):
            note = {"unit": "g/cm2", "material": density.material.value, "region": density.region}
            write_mha_image(
                density_file(folder, row),
                density.areal_g_cm2,
                density.pixel_mm,
                {**note, "research_use_only": RESEARCH_USE_ONLY},
            )
    write_json(folder / METRICS_FILE, {**evaluation.metrics, **made_with})


def _write_rows(path: Path, evaluation: Evaluation) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(evaluation.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if x is None else x for name, x in row.items()} for row in evaluation.rows)
