"""Whose BMD is what: the lumbar spine's and the femur's by patient, with where the femur's comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierbmd.baselines.lumbar.options import Options
from hierbmd.data.density import DensityClass, Reference, ReferenceName, class_of, reference_for
from hierbmd.data.pairs import HIP_OF_SCAN, REGION, PairRecord
from hierbmd.data.site import LUMBAR_SPINE, site_of
from hierbmd.data.splits import SplitMember, check_leaks
from hierbmd.errors import BadManifest, SuspectedUnit, Uncalibrated
from hierbmd.io.dataset import Dataset, read_dataset

CATEGORIES = tuple(DensityClass)
"""The categories in the order of the network's outputs: normal, low bone mass, osteoporosis."""

_PLAUSIBLE_G_CM2 = (0.1, 2.5)


@dataclass(frozen=True)
class Truth:
    """The reference BMD of one patient by site, g/cm2, NaN where unknown; from where the femur's is; age in years."""

    bmd_g_cm2: NDArray[np.float64]
    femur_source: str
    age: float | None = None

    def categories(self, references: Sequence[Reference]) -> NDArray[np.int64]:
        """The category (sites,) by T-score; -1 where there is no BMD, and for one too young for T-scores."""
        pairs = zip(self.bmd_g_cm2, references, strict=True)
        found = [class_of(v, r, age=self.age) if np.isfinite(v) else None for v, r in pairs]
        return np.array([-1 if one is None else CATEGORIES.index(one) for one in found], dtype=np.int64)


def references_of(options: Options) -> tuple[Reference, Reference]:
    """The young-adult references of the sites; BadConfig when one is of another region."""
    return _reference(options.lumbar_reference, "lumbar_l1_l4"), _reference(options.femur_reference, REGION)


def _reference(name: ReferenceName, region: str) -> Reference:
    reference = reference_for(name, region)
    assert reference is not None, "only auto finds none"
    return reference


def read_lumbar(folder: str | Path) -> Dataset:
    """A data set of lumbar pairs; BadManifest: of another region, SplitLeak: patients or pixels in two splits."""
    dataset = read_dataset(folder)
    if site_of(dataset.card.region) is not LUMBAR_SPINE or dataset.card.region != "lumbar_l1_l4":
        raise BadManifest(
            f"a data set of {dataset.card.region}, not of lumbar_l1_l4",
            where=folder,
            mend="hierbmd prepare --region lumbar_l1_l4",
        )
    check_leaks([SplitMember(r.pair_id, r.subject, r.split, r.radiograph_sha256) for r in dataset.records])
    return dataset


def truths(dataset: Dataset, options: Options) -> dict[str, Truth]:
    """Every patient's reference BMD of both sites, images of one patient averaged.

    Errors: Uncalibrated (the hips' data set is in another material), BadManifest (a column that is no number, or no
    patient has a femur's BMD), SuspectedUnit.
    """
    hips = {} if options.hips is None else _of_hips(options.hips, dataset)
    found: dict[str, Truth] = {}
    for subject in sorted({record.subject for record in dataset.records}):
        records = [record for record in dataset.records if record.subject == subject]
        femur, source = _femur(records, options.femur_column, hips)
        lumbar = float(np.mean([record.bmd_g_cm2 for record in records]))
        found[subject] = Truth(np.array([lumbar, femur]), source, records[0].age)
    if not any(np.isfinite(truth.bmd_g_cm2[1]) for truth in found.values()):
        raise BadManifest(
            "no patient has a femur's BMD",
            where=dataset.folder,
            mend=f"a column {options.femur_column}, --hips DATASET, or CTs that hold the hips",
        )
    return found


def _femur(records: Sequence[PairRecord], column: str, hips: Mapping[str, float]) -> tuple[float, str]:
    first = records[0]
    if first.extra.get(column):
        return _number(first, column), f"manifest: {column}"
    if first.subject in hips:
        return hips[first.subject], "hips"
    sides = [_number(first, name) for name in HIP_OF_SCAN.values() if first.extra.get(name)]
    return (float(np.mean(sides)), "ct") if sides else (float("nan"), "")


def _number(record: PairRecord, column: str) -> float:
    text = record.extra[column]
    try:
        value = float(text)
    except ValueError:
        raise BadManifest(f"{column} {text!r} is no number", where=record.pair_id, mend="give g/cm2") from None
    low, high = _PLAUSIBLE_G_CM2
    if not low <= value <= high:
        raise SuspectedUnit(f"{column} {value:g} is outside {low:g} to {high:g}", where=record.pair_id, mend="g/cm2")
    return value


def _of_hips(folder: Path, dataset: Dataset) -> dict[str, float]:
    """The mean total-hip BMD of each patient of a data set of hips."""
    hips = read_dataset(folder)
    if hips.card.region != REGION:
        raise BadManifest(f"a data set of {hips.card.region}, not of {REGION}", where=folder, mend="--region total_hip")
    if hips.card.material != dataset.card.material:
        raise Uncalibrated(
            f"hips in {hips.card.material}, spines in {dataset.card.material}",
            where=folder,
            mend="scales are never mixed: prepare both with one material",
        )
    values: dict[str, dict[str, list[float]]] = {}
    for record in hips.records:
        if not record.synthetic:
            values.setdefault(record.subject, {}).setdefault(record.side, []).append(record.bmd_g_cm2)
    return {subject: float(np.mean([np.mean(side) for side in sides.values()])) for subject, sides in values.items()}
