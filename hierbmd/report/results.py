"""Reads the files that an evaluation and a data set left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierbmd.data.pairs import TrainingPair
from hierbmd.errors import BadManifest
from hierbmd.evaluation.files import METRICS_FILE, PREDICTIONS_FILE, density_file
from hierbmd.io.atomic import read_json
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.io.image import read_mha_image
from hierbmd.io.tables import read_table


@dataclass(frozen=True)
class Results:
    """An evaluation's folder as read: metrics, the rows of predictions.csv, and the data set that they are of."""

    folder: Path
    metrics: Mapping[str, Any]
    rows: tuple[Mapping[str, str], ...]
    dataset: Dataset

    @property
    def shown(self) -> tuple[int, ...]:
        """The rows (from 1) that have a density image, lowest reference BMD first."""
        there = [n for n in range(1, len(self.rows) + 1) if density_file(self.folder, n).is_file()]
        return tuple(sorted(there, key=lambda n: float(self.rows[n - 1]["bmd_reference_g_cm2"])))

    def pair(self, row: int) -> TrainingPair:
        """The pair of a row (from 1)."""
        pair_id = self.rows[row - 1]["pair_id"]
        for record in self.dataset.records:
            if record.pair_id == pair_id:
                return self.dataset.load(record)
        raise BadManifest(f"row {row} of the predictions is not in the data set", where=self.dataset.folder)

    def predicted_density(self, row: int) -> Any:
        """The predicted areal density of a row (from 1), (H, W) g/cm2, in the canonical frame."""
        return read_mha_image(density_file(self.folder, row)).pixels

    def overlay(self, row: int) -> Path | None:
        """The registration overlay that `prepare` left for a row's pair, if it did."""
        path = self.dataset.folder / "qc" / f"{self.rows[row - 1]['pair_id']}.png"
        return path if path.is_file() else None


def read_results(folder: str | Path, dataset: str | Path) -> Results:
    """Read an evaluation's folder and its data set; BadConfig or BadManifest names what is missing."""
    folder = Path(folder)
    metrics = read_json(folder / METRICS_FILE)
    return Results(folder, metrics, read_table(folder / PREDICTIONS_FILE), read_dataset(dataset))


def read_refusals(dataset: Dataset) -> tuple[Mapping[str, str], ...]:
    """The rows of the data set's refusals.csv; none where there is no such file."""
    path = dataset.folder / "refusals.csv"
    return read_table(path) if path.is_file() else ()
