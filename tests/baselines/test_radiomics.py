"""Deep-radiomics whole: seven models by one command, read back like any model, stopped and gone on with."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hierbmd.baselines import radiomics
from hierbmd.baselines.radiomics.fitting import MODELS
from hierbmd.baselines.radiomics.options import Options
from hierbmd.cli.main import main
from hierbmd.data.density import Material
from hierbmd.errors import BadConfig
from hierbmd.evaluation.cases import half_of
from hierbmd.io.dataset import read_dataset, write_view
from hierbmd.io.weights import read_card
from hierbmd.predict import load_predictor

pytest.importorskip("mirp", reason="texture features need mirp: pip install 'hierbmd[radiomics]'")

CONDITION = "low_bone_mass_or_osteoporosis"


@pytest.fixture(scope="module")
def run(one_image_each, encoder_run, tmp_path_factory):
    """A run of the seven models on ten training patients, by the command line."""
    out = tmp_path_factory.mktemp("radiomics") / "run"
    argv = ["train-baseline", "deep_radiomics", "--data", str(one_image_each), "--out", str(out)]
    argv += ["--encoder", str(encoder_run), "--folds", "2", "--inner-folds", "2", "--bins", "8"]
    assert main([*argv, "--condition", CONDITION, "--bootstrap-samples", "100"]) == 0
    return out


def options(encoder_run, **changed):
    settings = {"folds": 2, "inner_folds": 2, "bins": 8, "condition": CONDITION, "bootstrap_samples": 100}
    return Options(encoder=encoder_run, **{**settings, **changed})


def test_seven_models_in_every_place_with_paired_tests_and_named_features(run):
    results = json.loads((run / "results.json").read_text())
    assert set(results["models"]) == {"internal", "test"}
    for place in results["models"].values():
        assert tuple(place) == MODELS
        for figures in place.values():
            assert {"auc", "recommend_dxa", "bmd", "n_patients"} <= figures.keys()
    assert results["models"]["test"]["C"]["n_patients"] == 12
    assert len(results["paired"]["test"]) == 21
    assert {"value", "low", "high", "p"} <= results["paired"]["test"]["DTC less T"].keys()
    assert set(results["selected"]["C"]) <= {f"clinical.{n}" for n in ("age", "female", "height_cm", "weight_kg")}
    kinds = {"T": "texture.", "D": "deep."}
    assert all(name.startswith(kinds[m]) for m in kinds for name in results["selected"][m])
    assert results["offered"]["DTC"] == sum(results["offered"][m] for m in "DTC")
    assert results["research_use_only"].startswith("Research use only")
    assert results["bmd_sources"] == ["qct", "qct (internal calibration)"]  # FAULTS 23: said wherever it goes
    assert read_card(run).training["bmd_sources"] == results["bmd_sources"]
    with (run / "models.csv").open() as stream:
        rows = {row["figure"]: row for row in csv.DictReader(stream)}
    assert float(rows["models/test/DTC/auc"]["value"]) == results["models"]["test"]["DTC"]["auc"]["value"]


def test_the_page_says_what_the_results_say(run):
    page = (run / "report.html").read_text()
    assert "SIMULATED" in page
    assert "Research use only" in page
    assert page.count("<img") == 2
    results = json.loads((run / "results.json").read_text())
    assert all(name in page for name in results["selected"]["DTC"])
    assert f"{results['models']['test']['DTC']['auc']['value']:.3f}" in page


def test_the_bright_region_tells_the_bmd(run):
    """The radiograph is the density: whatever sees it must order the patients, and age was made to follow it."""
    found = json.loads((run / "results.json").read_text())["models"]["test"]
    assert all(found[name]["bmd"]["pearson_r"]["value"] > 0.8 for name in ("T", "D", "C", "DTC"))
    assert all(found[name]["auc"]["value"] > 0.8 for name in ("T", "C", "DTC"))


def test_the_folder_reads_as_it_was_evaluated(run, one_image_each):
    dataset, predictor = read_dataset(one_image_each), load_predictor(run)
    with (run / "predictions.csv").open() as stream:
        rows = {row["pair_id"]: row for row in csv.DictReader(stream) if row["place"] == "test"}
    for kept in (True, False):
        reader = predictor if kept else replace(predictor, kept=run / "nowhere")
        for record in dataset.of_split("test")[:2]:
            read = reader.predict_half(half_of(dataset.load(record), dataset))
            row = rows[record.pair_id]
            assert read.bmd.value_g_cm2 == pytest.approx(float(row["DTC_bmd_g_cm2"]), abs=1e-6)
            assert read.findings["probability"] == pytest.approx(float(row["DTC_risk"]), abs=1e-6)
            assert read.findings["recommend_dxa"] == (read.findings["probability"] >= read.findings["threshold"])
            assert read.bmd.interval_g_cm2 is not None


def test_a_finished_run_is_left_and_a_stopped_one_takes_its_features_up(run, one_image_each, encoder_run, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    sha256 = read_card(run).sha256
    card = radiomics.fit(one_image_each, run, options(encoder_run, workers=3))
    assert card == read_card(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(BadConfig, match="another config bins: 8 -> 16"):
        radiomics.fit(one_image_each, run, options(encoder_run, bins=16))
    weights = (run / "weights.safetensors").read_bytes()
    (run / "card.json").unlink()
    features = sorted((run / "features").iterdir())
    features[0].unlink()
    asked = []
    monkeypatch.setattr(
        "hierbmd.baselines.radiomics.features.texture_features",
        lambda *a, **k: asked.append(1) or original(*a, **k),
    )
    assert radiomics.fit(one_image_each, run, options(encoder_run)).sha256 == sha256
    assert len(asked) == 1
    assert (run / "weights.safetensors").read_bytes() == weights


def original(*arguments, **settings):
    from hierbmd.baselines.radiomics.texture import texture_features

    return texture_features(*arguments, **settings)


def test_what_is_fitted_depends_on_nothing_but_the_training_patients(
    run, one_image_each, readable_dataset, encoder_run, tmp_path
):
    """BMD of validation and test patients turned upside down, and an external set, leave every model as it was."""
    from hierbmd.io.dataset import write_dataset, write_pair
    from hierbmd.io.weights import read_weights

    dataset = read_dataset(one_image_each)
    turned = tuple(r if r.split == "train" else replace(r, bmd_g_cm2=2.0 - r.bmd_g_cm2) for r in dataset.records)
    write_view(tmp_path / "turned", replace(dataset, records=turned))
    others = tuple(
        replace(record, subject=f"x{record.subject}", pair_id=f"x{record.pair_id}")
        for record in read_dataset(readable_dataset).records
        if record.pair_id.endswith("_left_1")
    )[:4]
    for record in others:
        images = read_dataset(readable_dataset).load(replace(record, pair_id=record.pair_id[1:]))
        write_pair(tmp_path / "external", replace(images, record=record))
    write_dataset(tmp_path / "external", dataset.card, others)
    radiomics.fit(tmp_path / "turned", tmp_path / "run", options(encoder_run, external=tmp_path / "external"))
    ours, theirs = read_weights(run)[0], read_weights(tmp_path / "run")[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    thresholds = [json.loads((out / "results.json").read_text())["thresholds"] for out in (run, tmp_path / "run")]
    assert thresholds[0] == thresholds[1]
    assert np.isfinite(thresholds[0]["DTC"])
    external = json.loads((tmp_path / "run" / "results.json").read_text())["models"]["external"]
    assert tuple(external) == MODELS
    assert external["DTC"]["n_patients"] == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"material": Material.K2HPO4}, "material HA; wanted material K2HPO4"),
        ({"region": "femoral_neck"}, "region total_hip; wanted region femoral_neck"),
    ],
)
def test_it_is_not_judged_in_another_mineral_or_region(run, one_image_each, refused_by_evaluate, changed, said):
    assert said in refused_by_evaluate(run, one_image_each, changed)
