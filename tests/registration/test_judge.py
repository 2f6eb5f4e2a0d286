"""From what is known at the end to one outcome: the gravest fault first, and each with its explanation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hierbmd.registration.judge import Evidence, disputed, judge
from hierbmd.registration.level import make_levels
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.outcome import Outcome, StartResult, Uncertainty
from hierbmd.registration.refine import Refined
from hierbmd.registration.similarity import Fit
from hierbmd.rigid import moved

OPTIONS = RegistrationOptions()


def _starts(*kinds):
    """Starts of (similarity, agrees)."""
    return tuple(StartResult(np.eye(4), np.eye(4), similarity, agrees) for similarity, agrees in kinds)


def _refined(pose, *, similarity=0.8, settled=True):
    return Refined(pose, Fit(np.zeros(2), np.zeros((2, 6)), 1.0 - similarity**2, similarity, 1.0), 9, settled)


@pytest.fixture
def evidence(blob_body, camera, start):
    """What speaks for a bone that was found."""
    body = blob_body()
    levels = make_levels(body.image(camera, start)[0], camera, pixel_mm=(3.0,), smoothing_px=1.0)
    sure = Uncertainty(0.1, 0.1, 0.1, 0.1, 0.1, 2.0, 0.2, 0.1)
    return Evidence(body, levels, start, _refined(start), False, sure, 0.0, _starts((0.8, True), (0.79, True)))


def test_nothing_speaks_against(evidence):
    assert judge(evidence, OPTIONS) is Outcome.CONVERGED


def test_each_fault_has_its_own_outcome(evidence, start):
    away = moved(start, np.array([0, 0, 0, 400.0, 0, 0]), np.zeros(3))
    blank = make_levels(np.zeros((80, 96), np.float32), evidence.levels[0].camera, pixel_mm=(3.0,), smoothing_px=1.0)
    vague = replace(evidence.uncertainty, in_plane_mm=1.2)
    few = _starts((0.8, True), (0.75, False), (0.7, False), (0.4, False))
    cases = {
        Outcome.OFF_IMAGE: replace(evidence, pose=away),
        Outcome.AT_BOUNDS: replace(evidence, at_edge=True),
        Outcome.LOW_SIMILARITY: replace(evidence, refined=_refined(start, similarity=0.49)),
        Outcome.DIVERGED: replace(evidence, refined=_refined(start, settled=False)),
        Outcome.FLAT: replace(evidence, uncertainty=vague),
        Outcome.AMBIGUOUS: replace(evidence, rival_similarity=0.79),
        Outcome.DISAGREEING_STARTS: replace(evidence, starts=few),
    }
    assert {outcome: judge(case, OPTIONS) for outcome, case in cases.items()} == {one: one for one in cases}
    assert judge(replace(evidence, levels=blank), OPTIONS) is Outcome.FLAT
    assert judge(replace(evidence, refined=None), OPTIONS) is Outcome.FLAT
    assert set(cases) | {Outcome.CONVERGED} == set(Outcome)


def test_an_unknown_error_is_flat(evidence):
    unknown = replace(evidence.uncertainty, in_plane_mm=np.inf)
    assert judge(replace(evidence, uncertainty=unknown), OPTIONS) is Outcome.FLAT


def test_the_gravest_fault_is_named(evidence, start):
    both = replace(evidence, at_edge=True, refined=_refined(start, similarity=0.2), rival_similarity=0.79)
    assert judge(both, OPTIONS) is Outcome.AT_BOUNDS


def test_a_rival_that_explains_much_less_is_none(evidence):
    assert judge(replace(evidence, rival_similarity=0.7), OPTIONS) is Outcome.CONVERGED


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        pytest.param([], False, id="no starts"),
        pytest.param([(0.8, True)] * 2 + [(0.78, False)] * 4, False, id="a third agrees"),
        pytest.param([(0.8, True)] + [(0.78, False)] * 4, True, id="one of five, others as similar"),
        pytest.param([(0.8, True)] + [(0.6, False)] * 4, False, id="one of five, others stuck"),
    ],
)
def test_starts_are_disputed_when_few_agree_and_others_are_nearly_as_similar(kinds, expected):
    assert disputed(_starts(*kinds)) is expected


def test_every_outcome_but_converged_explains_itself():
    assert all(": " in outcome.value for outcome in Outcome if outcome is not Outcome.CONVERGED)
