"""Nothing leaks: what is learnt from the data is learnt from the training patients of a fold alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hierbmd.baselines.radiomics import nested, pipeline
from hierbmd.baselines.radiomics.nested import Rows, dxa_threshold, held_out
from hierbmd.baselines.radiomics.options import Options
from hierbmd.baselines.radiomics.pipeline import BmdAndRisk, LassoSelection, condition_of, fitted
from hierbmd.baselines.radiomics.results import Read, figures, paired
from hierbmd.baselines.radiomics.stored import StoredModel

OPTIONS = Options(encoder=Path("none"), folds=3, inner_folds=2, bootstrap_samples=100, condition="osteoporosis")


def rows_of(table, columns=None):
    return Rows.of(table, table.columns if columns is None else columns)


@pytest.fixture(scope="module")
def informed(table_of):
    """Held-out readings of 40 patients whose features follow their BMD."""
    rows = rows_of(table_of(40, seed=2, signal=2.0, noise_columns=12))
    return rows, held_out(rows, OPTIONS)


def test_features_that_follow_the_bmd_are_found_and_held_out_patients_read(informed):
    rows, found = informed
    read = figures(Read(rows, found.read, found.thresholds), OPTIONS)
    assert read["auc"]["value"] > 0.85
    assert read["bmd"]["pearson_r"]["value"] > 0.8


@pytest.mark.parametrize("select_by", ["bmd", "condition"])
def test_shuffled_labels_give_an_auc_of_one_half_within_its_interval(table_of, select_by):
    """60 patients, 2 images each, 200 columns.

    Fifteen columns chosen by all patients' BMD, outside the folds, gave 0.73 (0.57 to 0.85) here.
    """
    table = table_of(60, seed=5, signal=2.0, noise_columns=200)
    subjects = sorted({record.subject for record in table.records})
    others = dict(zip(subjects, np.random.default_rng(1).permutation(subjects), strict=True))
    bmd = {(record.subject, record.side): record.bmd_g_cm2 for record in table.records}
    shuffled = tuple(replace(r, bmd_g_cm2=bmd[others[r.subject], r.side]) for r in table.records)
    options = replace(OPTIONS, select_by=select_by, condition="low_bone_mass_or_osteoporosis")
    rows = rows_of(replace(table, records=shuffled))
    found = held_out(rows, options)
    auc = figures(Read(rows, found.read, found.thresholds), options)["auc"]
    assert auc["low"] <= 0.5 <= auc["high"]


def test_a_held_out_patient_changes_nothing_that_its_fold_learns(table_of, monkeypatch):
    """Whatever is done to one patient's features and BMD, its fold's model and threshold stay as they are.

    With any step fitted outside the folds this fails: shown with the scaler.
    """
    table = table_of(12, seed=3, signal=1.0, noise_columns=4)
    rows = rows_of(table)
    spoilt = Rows(rows.X.copy(), tuple(rows.records))
    mine = [i for i, record in enumerate(rows.records) if record.subject == "p004"]
    spoilt.X[mine] = 1e3
    learnt = [_what_p004_s_fold_learns(one, monkeypatch) for one in (rows, spoilt)]
    assert learnt[0] == learnt[1]
    monkeypatch.setattr(nested.Rows, "at", _scaled_on_everybody(nested.Rows.at))
    leaked = [_what_p004_s_fold_learns(one, monkeypatch) for one in (rows, spoilt)]
    assert leaked[0] != leaked[1]


def _what_p004_s_fold_learns(rows, monkeypatch):
    """The statistics, columns and weights of the model that reads p004, and the threshold that it is held to."""
    models = []
    with monkeypatch.context() as patch:
        patch.setattr(nested, "fitted", lambda *a: models.append((a[3], fitted(*a))) or models[-1][1])
        found = held_out(rows, replace(OPTIONS, folds=3))
    stored = [
        {name: x.tolist() for name, x in StoredModel.of_pipeline(model, _names(model)).arrays.items()}
        for subjects, model in models
        if "p004" not in subjects and len(set(subjects)) == 8
    ]
    assert len(stored) == 1
    mine = [i for i, record in enumerate(rows.records) if record.subject == "p004"]
    return stored, np.nan_to_num(found.thresholds[mine], nan=-1.0).tolist()


def _names(model):
    return [str(i) for i in range(model.n_features_in_)]


def _scaled_on_everybody(at):
    def leaking(self, rows):
        scaled = (self.X - np.nanmean(self.X, axis=0)) / np.nanstd(self.X, axis=0)
        return at(Rows(scaled, self.records), rows)

    return leaking


def test_the_threshold_reaches_the_sensitivity_asked_for(informed):
    rows, found = informed
    for asked in (0.5, 0.9, 1.0 - 1e-9):
        threshold, _ = dxa_threshold(rows, found.read, replace(OPTIONS, sensitivity=asked))
        limits = np.full(len(rows.records), threshold)
        triage = figures(Read(rows, found.read, limits), OPTIONS)["recommend_dxa"]
        assert triage["sensitivity"]["value"] >= asked - 1e-9


def test_what_is_not_known_is_filled_from_the_training_patients(table_of):
    table = table_of(20, seed=4, signal=1.0, noise_columns=3)
    rows = rows_of(table)
    rows.X[::3, 0] = np.nan
    model = fitted(OPTIONS, rows.X, rows.bmd_g_cm2, rows.subjects)
    assert model["impute"].statistics_[0] == pytest.approx(np.nanmedian(rows.X[:, 0]))
    assert np.isfinite(model.predict(np.full((1, rows.X.shape[1]), np.nan))[:, 0]).all()


@pytest.mark.parametrize("signal", [2.0, 0.0])
def test_the_stored_arithmetic_is_the_pipeline_s(table_of, signal):
    table = table_of(24, seed=6, signal=signal, noise_columns=8)
    rows = rows_of(table)
    model = fitted(OPTIONS, rows.X, rows.bmd_g_cm2, rows.subjects)
    stored = StoredModel.of_pipeline(model, table.columns)
    assert set(stored.columns) < set(table.columns)
    np.testing.assert_allclose(stored.read(table.of(stored.columns)), model.predict(rows.X), atol=1e-12)
    again = StoredModel.of_tensors(stored.tensors("DTC."), "DTC.", stored.columns)
    np.testing.assert_array_equal(
        again.read(rows.X[:, :0] if not stored.columns else table.of(stored.columns)),
        stored.read(table.of(stored.columns)),
    )


def test_one_class_gives_no_probability_but_a_bmd(table_of):
    rows = rows_of(table_of(10, seed=7, signal=2.0, noise_columns=2))
    healthy = tuple(replace(r, bmd_g_cm2=r.bmd_g_cm2 + 1.0) for r in rows.records)
    found = held_out(Rows(rows.X, healthy), OPTIONS)
    assert np.isnan(found.read[:, 1]).all()
    read = figures(Read(Rows(rows.X, healthy), found.read, found.thresholds), OPTIONS)
    assert read["auc"]["value"] is None
    assert "one class only" in read["auc"]["reason"]
    assert read["recommend_dxa"]["sensitivity"]["value"] is None
    assert read["bmd"]["rmse_g_cm2"]["value"] < 0.3
    assert (
        paired({"T": Read(rows, found.read, found.thresholds), "C": Read(rows, found.read, found.thresholds)}, OPTIONS)
        == {}
    )


def test_a_column_is_kept_where_the_lasso_would_keep_none():
    X = np.random.default_rng(0).normal(size=(30, 5))
    y = np.random.default_rng(1).normal(0.8, 0.1, 30)
    kept = LassoSelection().fit(X, y, [str(i) for i in range(30)]).get_support()
    assert kept.sum() >= 1
    assert LassoSelection().fit(np.zeros((30, 5)), y, [str(i) for i in range(30)]).get_support().sum() == 0
    nothing = BmdAndRisk(condition_of(OPTIONS), 4, 1.0, 0).fit(X[:, :0], y)
    assert nothing.predict(X[:2, :0])[:, 0] == pytest.approx(y.mean())


def test_penalties_begin_where_the_first_column_comes_in():
    X = np.random.default_rng(0).normal(size=(50, 3))
    X -= X.mean(axis=0)
    y = X[:, 1] + 5.0
    largest = pipeline._penalties(X, y)[0]
    assert largest == pytest.approx(float(X[:, 1] @ X[:, 1]) / 50)
