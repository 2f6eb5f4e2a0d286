"""The whole system on a made-up data set: cross-validated figures, the model, and what it is refused as."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.baselines import lumbar
from hierbmd.baselines.lumbar.options import Options
from hierbmd.cli.main import main
from hierbmd.data.density import DensityClass, Material
from hierbmd.errors import BadConfig, BadManifest, UntrustedWeights, WrongWeights
from hierbmd.evaluation.cases import half_of
from hierbmd.io.atomic import read_json, write_json
from hierbmd.io.dataset import read_dataset
from hierbmd.io.weights import write_weights
from hierbmd.predict import load_predictor
from hierbmd.training.options import LoopOptions

FAST = LoopOptions(epochs=30, learning_rate=4e-3, patience=0, accelerator="cpu")
OPTIONS = Options(folds=2, bootstrap_samples=200, batch_size=4, augment=False, loop=FAST)


@pytest.fixture(scope="module")
def run(lumbar_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seconds."""
    out = tmp_path_factory.mktemp("lumbar") / "run"
    lumbar.fit(lumbar_dataset, out, OPTIONS)
    return out


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "cross_validation.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_patient_is_read_once_by_a_network_that_never_saw_them(run: Path, lumbar_dataset: Path) -> None:
    rows, dataset = _rows(run), read_dataset(lumbar_dataset)
    assert [row["subject"] for row in rows] == sorted({r.subject for r in dataset.of_split("train", "val")})
    known = {r.subject: r.bmd_g_cm2 for r in dataset.records}
    for fold in ("0", "1"):
        rest = [known[row["subject"]] for row in rows if row["fold"] != fold]
        (mean,) = {float(row["lumbar_mean_predictor_g_cm2"]) for row in rows if row["fold"] == fold}
        assert mean == pytest.approx(np.mean(rest), abs=1e-4)
    assert sum(row["femur_reference_g_cm2"] == "" for row in rows) == 4


def test_both_sites_are_better_than_the_mean_and_every_figure_has_its_interval(run: Path) -> None:
    found = read_json(run / "cross_validation.json")
    assert (found["lumbar"]["n_patients"], found["femur"]["n_patients"]) == (20, 16)
    assert found["simulated"] is True
    assert "esearch use only" in found["research_use_only"]
    for site in ("lumbar", "femur"):
        model, mean = found[site]["model"], found[site]["mean_predictor"]
        assert model["mae_g_cm2"]["value"] < 0.8 * mean["mae_g_cm2"]["value"]
        assert model["pearson_r"]["value"] > 0.6
        assert model["mae_g_cm2"]["low"] < model["mae_g_cm2"]["value"] < model["mae_g_cm2"]["high"]
        for condition in ("osteoporosis", "low_bone_mass_or_osteoporosis"):
            for by in ("by_category", "by_t_score"):
                figure = found[site]["screening"][condition][by]["sensitivity"]
                assert figure["value"] is None or figure["low"] <= figure["value"] <= figure["high"]
    assert (run / "cross_validation.png").stat().st_size > 10_000


def test_screening_counts_what_the_table_says(run: Path) -> None:
    rows, found = _rows(run), read_json(run / "cross_validation.json")
    t_score = [(float(row["lumbar_reference_g_cm2"]) - 1.064) / 0.106 for row in rows]
    low = np.array([t < -1 for t in t_score])
    called = np.array([row["lumbar_category"] != DensityClass.NORMAL for row in rows])
    figures = found["lumbar"]["screening"]["low_bone_mass_or_osteoporosis"]["by_category"]
    assert figures["sensitivity"]["value"] == pytest.approx(called[low].mean())
    assert figures["specificity"]["value"] == pytest.approx((~called[~low]).mean())


def test_the_model_reads_a_patient_never_seen_and_says_what_of_the_femur(run: Path, lumbar_dataset: Path) -> None:
    predictor, dataset = load_predictor(run), read_dataset(lumbar_dataset)
    off = []
    for record in dataset.of_split("test"):
        found = predictor.predict_half(half_of(dataset.load(record), dataset))
        assert found.density is None
        assert found.findings["lumbar"]["bmd_g_cm2"] == found.bmd.value_g_cm2
        femur = found.findings["femur"]
        assert (femur["region"], femur["seen_on_the_radiograph"]) == ("total_hip", False)
        assert sum(femur["category_shares"].values()) == pytest.approx(1.0)
        off.append(found.bmd.value_g_cm2 - record.bmd_g_cm2)
    assert np.mean(np.abs(off)) < 0.12


def test_evaluate_judges_it_as_any_other(run: Path, lumbar_dataset: Path, tmp_path: Path) -> None:
    arguments = ["--model", run, "--data", lumbar_dataset, "--out", tmp_path, "--bootstrap-samples", "100"]
    reference = ["--reference", "nhanes-female-lumbar-l1-l4"]
    assert main(["evaluate", *map(str, arguments), *reference]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n_subjects"] == 6
    assert metrics["mae_g_cm2"] < metrics["mean_predictor_mae_g_cm2"]
    page = (tmp_path / "report.html").read_text()
    assert "One row a patient of 50 or more or of unknown age; who has the condition" in page
    assert " hip" not in page


def test_a_finished_run_stays_and_other_settings_are_refused(run: Path, lumbar_dataset: Path) -> None:
    before = (run / "weights.safetensors").stat().st_mtime_ns
    lumbar.fit(lumbar_dataset, run, OPTIONS)
    assert (run / "weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(BadConfig, match=r"seed: 0 -> 1"):
        lumbar.fit(lumbar_dataset, run, replace(OPTIONS, seed=1))


def test_weights_of_something_else_are_refused(run: Path, blob_reader: Any, tmp_path: Path) -> None:
    write_weights(tmp_path / "stage", {}, blob_reader().card)
    with pytest.raises(WrongWeights, match=r"of stage regress.*wanted stage baseline"):
        lumbar.load(tmp_path / "stage")
    for name in ("weights.safetensors", "card.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    card = read_json(tmp_path / "card.json")
    write_json(
        tmp_path / "card.json",
        {**card, "network": {**card["network"], "head": {**card["network"]["head"], "hidden": 8}}},
    )
    with pytest.raises(WrongWeights, match="do not fit"):
        lumbar.load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UntrustedWeights, match="only safetensors"):
        lumbar.load(tmp_path)


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(relabelled: Any, tmp_path: Path) -> None:
    """Were a held-out patient seen in training, the network could remember the label that they were given."""
    order = np.random.default_rng(3).permutation(26)
    bmd = np.random.default_rng(4).uniform(0.65, 1.25, 26)
    data = relabelled(lambda n, record: replace(record, bmd_g_cm2=float(bmd[order[n]])))
    lumbar.fit(data, tmp_path / "run", OPTIONS)
    figure = read_json(tmp_path / "run" / "cross_validation.json")["lumbar"]["model"]["pearson_r"]
    assert figure["low"] < 0.0 < figure["high"] or figure["value"] < 0.0


def test_too_few_patients_are_refused(lumbar_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="fewer than two in each of 11 folds"):
        lumbar.fit(lumbar_dataset, tmp_path / "run", replace(OPTIONS, folds=11))
    with pytest.raises(BadConfig, match="out of range"):
        Options(folds=1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"material": Material.K2HPO4}, "material HA; wanted material K2HPO4"),
        ({"region": "lumbar_l1"}, "region lumbar_l1_l4; wanted region lumbar_l1"),
    ],
)
def test_it_is_not_judged_in_another_mineral_or_region(
    run: Path, lumbar_dataset: Path, refused_by_evaluate: Callable[..., str], changed: Any, said: str
) -> None:
    assert said in refused_by_evaluate(run, lumbar_dataset, changed)
