"""The training set on disk: what is written comes back; what is broken is named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hierbmd.data.halves import HalfFrame
from hierbmd.data.pairs import DatasetCard, PairRecord, TrainingPair
from hierbmd.errors import BadManifest, HierbmdError
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import pair_path, read_dataset, write_dataset, write_pair

CARD = DatasetCard(HalfFrame((8, 16), (3.0, 3.5)), sdd_mm=1000.0, view=View.AP, simulated=True)


def _pair(pair_id="S1_left", **changes):
    record = PairRecord(
        pair_id=pair_id,
        subject="S1",
        side=Side.LEFT,
        bmd_g_cm2=0.91,
        bmd_source="dxa",
        bmd_qct_g_cm2=0.9,
        region_bmd_at_pose_g_cm2=0.88,
        outcomes={"hip": "converged", "femur": "converged"},
        radiograph="xr/a.dcm",
        radiograph_sha256="ab",
        view=View.AP,
        sdd_mm=1000.0,
        source_isocentre_mm=800.0,
        mirrored=True,
        age=61.0,
        extra={"site": "B, north"},
    )
    random = np.random.default_rng(0)
    images = random.random((4, 16, 8), np.float32)
    mask = (images[3] > 0.5).astype(np.uint8)
    return TrainingPair(dataclasses.replace(record, **changes), images[0], images[1:3], images[3], mask)


def test_a_data_set_comes_back_as_it_was_written(tmp_path):
    pair = _pair()
    other = _pair("S2_right", subject="S2", side=Side.RIGHT, split="test", sex="F", age=None, extra={"site": ""})
    for each in (pair, other):
        write_pair(tmp_path, each)
    write_dataset(tmp_path, CARD, [pair.record, other.record])

    dataset = read_dataset(tmp_path)

    assert dataset.card == CARD
    assert dataset.records == (pair.record, other.record)
    assert dataset.of_split("test") == (other.record,)
    loaded = dataset.load(dataset.records[0])
    for name in ("radiograph", "bones", "region", "region_mask"):
        assert np.array_equal(getattr(loaded, name), getattr(pair, name))
        assert getattr(loaded, name).dtype == getattr(pair, name).dtype


def test_a_broken_pair_is_named(tmp_path):
    pair = _pair()
    path = write_pair(tmp_path, pair)
    write_dataset(tmp_path, CARD, [pair.record])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadManifest, match="S1_left"):
        read_dataset(tmp_path).load(pair.record)
    pair_path(tmp_path, "S1_left").unlink()
    with pytest.raises(BadManifest, match="S1_left"):
        read_dataset(tmp_path).load(pair.record)


def test_a_pair_file_with_a_pickle_is_refused(tmp_path):
    pair = _pair()
    write_dataset(tmp_path, CARD, [pair.record])
    path = pair_path(tmp_path, "S1_left")
    path.parent.mkdir()
    np.savez(path, **dict.fromkeys(("radiograph", "bones", "region", "region_mask"), np.array([{}], dtype=object)))
    with pytest.raises(BadManifest, match="not a readable pair"):
        read_dataset(tmp_path).load(pair.record)


def test_a_pair_of_another_frame_is_refused(tmp_path):
    pair = _pair()
    write_pair(tmp_path, pair)
    write_dataset(tmp_path, dataclasses.replace(CARD, frame=HalfFrame((8, 8), (3.0, 3.0))), [pair.record])
    with pytest.raises(BadManifest, match="frame"):
        read_dataset(tmp_path).load(pair.record)


@pytest.mark.parametrize("broken", ["dataset.json", "pairs.csv"])
def test_a_missing_or_broken_index_is_named(tmp_path, broken):
    write_dataset(tmp_path, CARD, [_pair().record])
    (tmp_path / broken).write_text('{"version": 1}' if broken.endswith("json") else "pair_id,side\nx,up\n")
    with pytest.raises(HierbmdError, match=broken):
        read_dataset(tmp_path)
    (tmp_path / broken).unlink()
    with pytest.raises(HierbmdError, match=broken):
        read_dataset(tmp_path)
