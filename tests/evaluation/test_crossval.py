"""The out-of-fold table: every patient once a repeat, figures averaged over repeats, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.halves import HalfFrame
from hierbmd.data.pairs import DatasetCard
from hierbmd.errors import BadConfig
from hierbmd.evaluation.agreement import agreement, mae, pearson_r, repeated_agreement, rmse
from hierbmd.evaluation.bootstrap import BootstrapOptions
from hierbmd.evaluation.crossval import HeldOut, cross_validation
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.io.dataset import read_dataset

QUICK = EvaluationOptions(bootstrap_samples=200)
CARD = DatasetCard(HalfFrame((32, 64), (3.0, 3.0)), simulated=True)


@pytest.fixture(scope="module")
def parts(hip_dataset):
    """Two repeats of three folds over the twelve patients that are not of the test, read with errors of a seed."""
    records, rng = read_dataset(hip_dataset).of_split("train", "val"), np.random.default_rng(4)
    names = sorted({record.subject for record in records})
    made = []
    for repeat in range(2):
        order = rng.permutation(names)
        for fold in range(3):
            held_out = set(order[fold::3])
            ours = tuple(record for record in records if record.subject in held_out)
            learnt = [np.mean([r.bmd_g_cm2 for r in records if r.subject == n]) for n in names if n not in held_out]
            read = [r.bmd_g_cm2 + (0.02 + 0.02 * repeat) * rng.normal() for r in ours]
            made.append(HeldOut(repeat, fold, ours, tuple(read), float(np.mean(learnt))))
    return made


def test_a_figure_is_the_mean_of_the_repeats(parts):
    found = cross_validation(parts, folds=3, card=CARD, options=QUICK).metrics
    assert (found["folds"], found["repeats"], found["n_subjects"]) == (3, 2, 12)
    by_hand = {"rmse_g_cm2": rmse, "pearson_r": pearson_r, "mae_g_cm2": mae}
    for name, metric in by_hand.items():
        values = []
        for repeat in range(2):
            ours = [part for part in parts if part.repeat == repeat]
            read = [value for part in ours for value in part.predicted_g_cm2]
            values.append(metric(read, [r.bmd_g_cm2 for part in ours for r in part.records]))
        figure = found["agreement"]["model"][name]
        assert figure["value"] == pytest.approx(np.mean(values))
        assert figure["low"] < figure["value"] < figure["high"]
        if name == "rmse_g_cm2":
            assert found["repeat_sd"]["rmse_g_cm2"] == pytest.approx(np.std(values, ddof=1))
    assert found["agreement"]["model"]["rmse_g_cm2"]["value"] == pytest.approx(0.03, rel=0.3)
    assert found["rmse_less_mean_predictor_g_cm2"]["high"] < 0


def test_the_mean_predictor_is_each_folds_own(parts):
    found = cross_validation(parts, folds=3, card=CARD, options=QUICK)
    errors = [[part.mean_g_cm2 - r.bmd_g_cm2 for r in part.records] for part in parts]
    by_repeat = [np.sqrt(np.mean(np.square(np.concatenate(errors[3 * n : 3 * n + 3])))) for n in range(2)]
    assert found.metrics["agreement"]["mean_predictor"]["rmse_g_cm2"]["value"] == pytest.approx(np.mean(by_repeat))
    assert [one["mean_predictor_rmse_g_cm2"] for one in found.metrics["by_fold"]] == pytest.approx(
        [np.sqrt(np.mean(np.square(one))) for one in errors]
    )
    assert len(found.rows) == 2 * found.metrics["n_images"]


def test_a_repeat_without_all_of_its_folds_is_refused(parts):
    with pytest.raises(BadConfig, match="repeat 1 lacks fold 2 of 3"):
        cross_validation(parts[:-1], folds=3, card=CARD, options=QUICK)


def test_one_repeat_is_plain_agreement():
    rng = np.random.default_rng(0)
    y = rng.normal(0.8, 0.1, 40)
    x, subjects = y + rng.normal(0, 0.03, 40), [f"p{n // 2}" for n in range(40)]
    drawn = BootstrapOptions(100)
    assert repeated_agreement([x], y, subjects, options=drawn) == agreement(x, y, subjects, options=drawn)
    twice = repeated_agreement([x, x], y, subjects, options=drawn)
    assert twice["icc_2_1"].low == pytest.approx(agreement(x, y, subjects, options=drawn)["icc_2_1"].low)
