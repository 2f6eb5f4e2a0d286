"""A made-up lumbar data set whose radiographs tell both BMD values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hierbmd.data.halves import HalfFrame
from hierbmd.data.pairs import DatasetCard, PairRecord, TrainingPair
from hierbmd.data.site import LUMBAR_SPINE
from hierbmd.data.splits import pixels_sha256
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import write_dataset, write_pair

_SPLIT_OF = ["train"] * 16 + ["val"] * 4 + ["test"] * 6


@pytest.fixture(scope="session")
def lumbar_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 made-up patients (20 to learn from), one image each: two spots, as bright as spine and femur are dense.

    One patient in five has no femur's BMD.
    """
    folder = tmp_path_factory.mktemp("lumbar_dataset")
    generator = np.random.default_rng(5)
    records = []
    for number, split in enumerate(_SPLIT_OF):
        spine, femur = generator.uniform(0.65, 1.25), generator.uniform(0.45, 1.05)
        pair = _pair(f"p{number:02d}", spine, femur if number % 5 else None, split)
        write_pair(folder, pair)
        records.append(pair.record)
    card = DatasetCard(
        HalfFrame((24, 32), (6.0, 6.0)),
        region="lumbar_l1_l4",
        bones=LUMBAR_SPINE.bones,
        view=View.AP,
        simulated=True,
    )
    write_dataset(folder, card, records)
    return folder


def _pair(subject: str, spine_g_cm2: float, femur_g_cm2: float | None, split: str) -> TrainingPair:
    rows, columns = np.mgrid[:32, :24]
    spots = [np.clip(1 - ((rows - y) ** 2 + (columns - x) ** 2) / 40.0, 0, None) for y, x in ((10, 12), (25, 12))]
    mask = spots[0] > 0
    region = np.where(mask, spots[0] * spine_g_cm2 / spots[0][mask].mean(), 0).astype(np.float32)
    radiograph = 2.0 + region + spots[1] * 2 * (femur_g_cm2 or 0.7)
    radiograph[:2] = 6.0  # one brightness in every image, so that density outlasts the normalisation
    radiograph = radiograph.astype(np.float32)
    record = PairRecord(
        pair_id=f"{subject}_spine",
        subject=subject,
        side=Side.NONE,
        bmd_g_cm2=spine_g_cm2,
        bmd_source="qct",
        bmd_qct_g_cm2=spine_g_cm2,
        region_bmd_at_pose_g_cm2=spine_g_cm2,
        outcomes=dict.fromkeys(LUMBAR_SPINE.bones, "converged"),
        radiograph=f"{subject}.dcm",
        radiograph_sha256=pixels_sha256(radiograph),
        view=View.AP,
        sdd_mm=1150.0,
        source_isocentre_mm=1000.0,
        mirrored=False,
        split=split,
        extra={"femur_bmd_g_cm2": "" if femur_g_cm2 is None else f"{femur_g_cm2:.4f}"},
    )
    return TrainingPair(record, radiograph, np.stack([region] * 4), region, mask.astype(np.uint8))


@pytest.fixture
def relabelled(lumbar_dataset: Path, tmp_path: Path):
    """`relabelled(change)`: the data set with each record changed by a function, its images shared."""
    from hierbmd.io.dataset import read_dataset, write_view

    def make(change) -> Path:
        dataset = read_dataset(lumbar_dataset)
        changed = tuple(change(number, record) for number, record in enumerate(dataset.records))
        write_view(tmp_path / "view", dataclasses.replace(dataset, records=changed))
        return tmp_path / "view"

    return make
