"""Readings by patient, and the choice of whom to show."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.evaluation.cases import Readings, half_of, shown_pair_ids
from hierbmd.io.dataset import read_dataset


def test_a_patient_is_the_lower_hip_with_poses_averaged():
    readings = Readings(
        np.array([0.8, 0.9, 0.6, 0.8, 1.0]),
        np.array([0.85, 0.85, 0.75, 0.75, 1.1]),
        ("a", "a", "a", "a", "b"),
        ("a left", "a left", "a right", "a right", "b left"),
    )
    predicted, reference = readings.by_patient()
    assert predicted == pytest.approx([0.7, 1.0])
    assert reference == pytest.approx([0.75, 1.1])


def test_shown_patients_span_the_reference_bmd(hip_dataset):
    records = read_dataset(hip_dataset).of_split("test")
    shown = shown_pair_ids(records, 4)
    by_id = {record.pair_id: record for record in records}
    values = [by_id[pair_id].bmd_g_cm2 for pair_id in shown]
    assert len({by_id[pair_id].subject for pair_id in shown}) == 4
    assert values == sorted(values)
    assert values[0] == min(record.bmd_g_cm2 for record in records)
    assert values[-1] == max(record.bmd_g_cm2 for record in records)
    assert len(shown_pair_ids(records, 99)) == 12
    assert shown_pair_ids((), 4) == ()


def test_a_pair_is_the_half_that_prepare_made(hip_dataset):
    dataset = read_dataset(hip_dataset)
    pair = dataset.load(dataset.records[0])
    half = half_of(pair, dataset)
    assert half.side == pair.record.side
    assert half.geometry.mirrored == pair.record.mirrored
    assert half.geometry.camera.pixel_mm == dataset.card.frame.pixel_mm
    assert np.array_equal(half.pixels, pair.radiograph)
