"""Models on patients of another source than the one that they learned from: the same figures, nothing fitted anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hierbmd.data.density import reference_for
from hierbmd.data.pairs import PairRecord
from hierbmd.data.splits import SplitMember, check_leaks
from hierbmd.errors import BadManifest
from hierbmd.evaluation.cases import Readings
from hierbmd.evaluation.comparison import MEAN_PREDICTOR, comparison, mean_predictor
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.study import pose_figures
from hierbmd.io.dataset import Dataset


def elsewhere(dataset: Dataset, learnt: Dataset) -> Dataset:
    """A data set of another source, all its taken images as test images, for models of the data set `learnt`.

    SplitLeak when a patient or an image's pixels are in both; BadManifest when there is no image.
    """
    records = tuple(replace(record, split="test") for record in dataset.records if not record.synthetic)
    if not records:
        raise BadManifest("no image to read", where=dataset.folder, mend="see its refusals.csv")
    known = [_member(record, "learnt from") for record in learnt.of_split("train", "val")]
    check_leaks([*known, *(_member(record, "to be read") for record in records)])
    return replace(dataset, records=records)


def transfer_metrics(
    dataset: Dataset, read: Mapping[str, Mapping[str, float]], *, mean_g_cm2: float, options: EvaluationOptions
) -> dict[str, Any]:
    """The systems' figures on a data set of `elsewhere`, and the first one's precision over poses.

    `read` has by system what was read of each image, g/cm2 by pair id; `mean_g_cm2` is what the mean predictor says,
    from the patients learnt from.
    """
    records = dataset.of_split("test")
    systems = {name: Readings.of(records, [values[r.pair_id] for r in records]) for name, values in read.items()}
    first = next(iter(systems.values()))
    systems[MEAN_PREDICTOR] = mean_predictor(first, mean_g_cm2)
    return {
        "n_subjects": len({record.subject for record in records}),
        "n_images": len(records),
        "bmd_sources": sorted({record.bmd_source for record in records}),
        "simulated": dataset.card.simulated,
        **comparison(systems, options, reference=reference_for(options.reference, dataset.card.region)),
        **pose_figures(first),
    }


def _member(record: PairRecord, split: str) -> SplitMember:
    return SplitMember(record.pair_id, record.subject, split, record.radiograph_sha256)
