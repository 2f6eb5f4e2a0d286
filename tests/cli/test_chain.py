"""The steps of demonstration and study on lumbar radiographs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import yaml

from hierbmd.cli import _chain
from hierbmd.geometry import Side
from hierbmd.io.atomic import write_json
from hierbmd.io.dataset import read_dataset
from hierbmd.simulation.morphometry import draw_anatomy
from hierbmd.simulation.options import PatientOptions, StudyOptions

CONFIGS = Path(__file__).parents[2] / "configs"


def test_lumbar_radiographs_are_of_the_same_patients(tmp_path, monkeypatch):
    """The CT holds the hips too, for the femur's BMD; anatomy is drawn before what the CT covers comes in."""
    made = []
    monkeypatch.setattr(
        "hierbmd.simulation.study.simulate_study", lambda out, recipe, workers: made.append(recipe) or ()
    )
    for region in ("total_hip", "lumbar_l1_l4"):
        _chain.simulate_patients(tmp_path, StudyOptions(subjects=4), seed=6, workers=1, region=region)
    hips, lumbar = made
    assert (hips.patient.coverage, hips.study.aims) == ("hips", ("ct",))
    assert (lumbar.patient.coverage, lumbar.study.aims) == ("torso", ("lumbar",))
    drawn = [draw_anatomy(np.random.default_rng([one.patient.seed, 3]), one.patient) for one in made]
    assert drawn[0] == drawn[1]
    assert drawn[0] != draw_anatomy(np.random.default_rng([7, 3]), PatientOptions(seed=7))


def test_lumbar_pairs_are_prepared_as_the_configuration_says(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("hierbmd.cohort.prepare", lambda manifest, out, options, progress: made.append(options))
    for region in ("total_hip", "lumbar_l1_l4"):
        _chain.prepare_pairs(tmp_path / "manifest.csv", tmp_path, workers=1, region=region)
    hips, lumbar = (options.row.pairing for options in made)
    assert hips.region.region == "total_hip"
    said = yaml.safe_load((CONFIGS / "spine" / "prepare.yaml").read_text())
    assert lumbar.region.region == said["region"]
    assert [list(lumbar.frame.size_px), list(lumbar.frame.pixel_mm)] == [said["frame_px"], said["frame_pixel_mm"]]


def test_truth_of_a_spine_is_that_of_l1_to_l4_and_of_a_hip_its_side(hip_dataset, tmp_path):
    hips = read_dataset(hip_dataset)
    spines = dataclasses.replace(hips, records=tuple(dataclasses.replace(r, side=Side.NONE) for r in hips.records))
    names = {record.subject for record in hips.records}
    known = {"left": {"total_hip_bmd_g_cm2": 0.6}, "right": {"total_hip_bmd_g_cm2": 0.7}}
    subjects = [{"subject": name, "sides": known, "spine": {"l1_l4_bmd_g_cm2": 0.9}} for name in sorted(names)]
    write_json(tmp_path / "truth.json", {"subjects": subjects})
    for dataset, expected in ((hips, {"left": 0.6, "right": 0.7}), (spines, {"none": 0.9})):
        true = _chain.with_true_bmd(dataset, tmp_path)
        assert {record.side.value: record.bmd_g_cm2 for record in true.records} == expected
        assert {record.bmd_source for record in true.records} == {_chain.TRUTH_SOURCE}
        assert [dataclasses.replace(r, bmd_g_cm2=0, bmd_source="") for r in true.records] == [
            dataclasses.replace(r, bmd_g_cm2=0, bmd_source="") for r in dataset.records
        ]
