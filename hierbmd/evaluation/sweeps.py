"""The robustness sweeps by name: poses of one hip, perturbed radiographs, and reference BMD without calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hierbmd.data.pairs import PairRecord
from hierbmd.errors import BadManifest
from hierbmd.evaluation.options import SweepName
from hierbmd.evaluation.perturb import perturbations
from hierbmd.evaluation.robustness import RadiographFiles, Row, changes, first_images
from hierbmd.io.dataset import Dataset
from hierbmd.io.tables import read_table

if TYPE_CHECKING:
    from hierbmd.predict import Predictor

_PERTURBED = ("compression", "noise", "resolution", "exposure")


def sweep_rows(
    sweeps: Sequence[SweepName],
    predictor: Predictor,
    dataset: Dataset,
    *,
    split: str,
    predicted_g_cm2: Mapping[str, float],
    files: RadiographFiles | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Row]:
    """The rows of several sweeps over a split's images, as `changes` gives them.

    `predicted_g_cm2` is what the model reads of each image as it is, by pair id. BadManifest where the data set does
    not hold what a sweep needs.
    """
    records = dataset.of_split(split)
    applied = [one for sweep in sweeps if sweep in _PERTURBED for one in perturbations(sweep)]
    if "pose" in sweeps:
        yield from _poses(records, predicted_g_cm2)
    if applied:
        images = first_images(records)
        yield from changes(predictor, dataset, images, applied, files=files, on_image=on_image)
    if "uncalibrated" in sweeps:
        yield from uncalibrated(dataset, records)


def _poses(records: Sequence[PairRecord], predicted_g_cm2: Mapping[str, float]) -> Iterator[Row]:
    """Each image of a hip that was seen more than once against the mean of its images."""
    of_hip: dict[tuple[str, str], list[PairRecord]] = {}
    for record in records:
        of_hip.setdefault((record.subject, record.side.value), []).append(record)
    repeated = [images for images in of_hip.values() if len(images) > 1]
    if not repeated:
        raise BadManifest(
            "no hip was seen more than once", mend="the pose sweep needs several radiographs of a patient"
        )
    for images in repeated:
        mean = float(np.mean([predicted_g_cm2[record.pair_id] for record in images]))
        for number, record in enumerate(images, start=1):
            yield _row("pose", f"pose {number}", number, record, "radiograph", (mean, predicted_g_cm2[record.pair_id]))


def uncalibrated(dataset: Dataset, records: Sequence[PairRecord]) -> Iterator[Row]:
    """What the QCT reference would be by one nominal line for everybody, the training patients' mean line.

    Areal density is linear in the line: with density rho = s HU + i and the mean path t through the region, areal BMD
    over volumetric BMD, another line (s0, i0) gives s0 / s (aBMD - i t) + i0 t. Exact but for voxels below zero.
    The data set's qc.csv holds line, areal and volumetric BMD of each pair.
    """
    path = dataset.folder / "qc.csv"
    by_pair = {row["pair_id"]: row for row in read_table(path)}
    learnt = [by_pair[r.pair_id] for r in dataset.of_split("train") if r.pair_id in by_pair]
    if not learnt:
        raise BadManifest("no lines of training patients", where=path, mend="prepare the data set again")
    slope, intercept = (float(np.mean([float(row[name]) for row in learnt])) for name in ("slope", "intercept"))
    for record in records:
        row = by_pair[record.pair_id]
        areal, own_slope, own = (float(row[name]) for name in ("bmd_qct_g_cm2", "slope", "intercept"))
        path_cm = areal / (1e-3 * float(row["vbmd_mg_cm3"]))
        nominal = slope / own_slope * (areal - 1e-3 * own * path_cm) + 1e-3 * intercept * path_cm
        yield _row("uncalibrated", "nominal line", 0.0, record, "reference BMD by QCT", (areal, nominal))


def _row(sweep: str, name: str, level: float, record: PairRecord, applied_to: str, pair: tuple[float, float]) -> Row:
    return {
        "sweep": sweep,
        "name": name,
        "level": level,
        "pair_id": record.pair_id,
        "subject": record.subject,
        "applied_to": applied_to,
        "bmd_g_cm2": pair[0],
        "bmd_changed_g_cm2": pair[1],
        "change_g_cm2": pair[1] - pair[0],
    }
