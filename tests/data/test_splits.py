"""Splits are by patient, repeatable and balanced; leaks are found and both sides are named (FAULTS 24)."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from hierbmd.data.splits import SplitMember, check_leaks, grouped_folds, pixels_sha256, quantile_strata, split_subjects
from hierbmd.errors import BadConfig, SplitLeak

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
SUBJECTS = [f"S{n:03d}" for n in range(50)]


def test_shares_are_met_and_every_subject_has_one_split():
    splits = split_subjects([*SUBJECTS, *SUBJECTS], SHARES, seed=1)
    assert sorted(splits) == SUBJECTS
    assert Counter(splits.values()) == {"train": 35, "val": 5, "test": 10}


def test_the_answer_depends_on_the_seed_and_not_on_the_order():
    mixed = random.Random(0).sample(SUBJECTS, len(SUBJECTS))
    assert split_subjects(SUBJECTS, SHARES, seed=1) == split_subjects(mixed, SHARES, seed=1)
    assert split_subjects(SUBJECTS, SHARES, seed=1) != split_subjects(SUBJECTS, SHARES, seed=2)


def test_strata_are_shared_out_alike():
    strata = quantile_strata({subject: float(n) for n, subject in enumerate(SUBJECTS)}, bins=5)
    assert Counter(strata.values()) == dict.fromkeys(range(5), 10)
    splits = split_subjects(SUBJECTS, SHARES, seed=3, strata=strata)
    for stratum in range(5):
        counts = Counter(splits[subject] for subject in SUBJECTS if strata[subject] == stratum)
        assert counts == {"train": 7, "val": 1, "test": 2}


def test_a_share_of_zero_gets_nobody():
    assert set(split_subjects(SUBJECTS, {"train": 0.5, "val": 0.0, "test": 0.5}, seed=0).values()) == {"train", "test"}


@pytest.mark.parametrize("shares", [{}, {"train": 0.7}, {"train": 1.2, "test": -0.2}])
def test_fractions_that_are_no_shares_are_refused(shares):
    with pytest.raises(BadConfig, match="sum to 1"):
        split_subjects(SUBJECTS, shares, seed=0)


def test_one_patient_in_two_splits_is_refused_and_both_are_listed():
    members = [SplitMember("S1_left", "S1", "train"), SplitMember("S1_right", "S1", "test")]
    with pytest.raises(SplitLeak, match=r"one patient.*S1_left \(train\) and S1_right \(test\)"):
        check_leaks(members)
    check_leaks([members[0], SplitMember("S1_right", "S1", "train"), SplitMember("S2_right", "S2", "test")])


def test_the_same_pixels_under_two_ids_are_refused_and_both_are_listed():
    image = np.arange(12.0).reshape(3, 4)
    same, other = pixels_sha256(image.astype(np.int16)), pixels_sha256(image.T)
    members = [SplitMember("a", "S1", "train", same), SplitMember("b", "S2", "train", other)]
    check_leaks([*members, SplitMember("a2", "S1", "train", same), SplitMember("c", "S3", "test")])
    with pytest.raises(SplitLeak, match=r"same pixels.*a \(train\) and c \(test\)"):
        check_leaks([*members, SplitMember("c", "S3", "test", same)])


def test_repeated_folds_hold_each_patient_out_once_a_repeat() -> None:
    subjects = [f"s{i:02d}" for i in range(20)] * 4
    strata = {f"s{i:02d}": i % 2 for i in range(20)}
    folds = grouped_folds(subjects, 5, repeats=3, seed=2, strata=strata)
    assert [(f.repeat, f.fold) for f in folds] == [(r, k) for r in range(3) for k in range(5)]
    for repeat in range(3):
        of_repeat = [f for f in folds if f.repeat == repeat]
        assert sorted(s for f in of_repeat for s in f.held_out) == sorted(set(subjects))
        for fold in of_repeat:
            assert set(fold.train) | set(fold.held_out) == set(subjects)
            assert sum(strata[s] for s in fold.held_out) == 2
    assert folds[0].held_out != folds[5].held_out
    assert folds == grouped_folds(reversed(subjects), 5, repeats=3, seed=2, strata=strata)
    with pytest.raises(BadConfig, match="30 folds"):
        grouped_folds(subjects, 30)
