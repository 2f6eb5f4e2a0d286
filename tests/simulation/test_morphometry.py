"""Who is drawn: T-scores from -4 to +2 at hip and spine, by age and sex as the sources have them."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.simulation.morphometry import draw_anatomy, mean_t_score
from hierbmd.simulation.options import PatientOptions


@pytest.fixture(scope="module")
def drawn():
    """(woman, age, hip T-score, spine T-score) of 4000 patients of the default options."""
    patients = [draw_anatomy(np.random.default_rng([9, n]), PatientOptions()) for n in range(4000)]
    return np.array(
        [(a.body.sex == "F", a.body.age_years, a.quality[0].t_score_drawn, a.spine.t_score_drawn) for a in patients]
    )


def test_t_scores_span_minus_4_to_plus_2_at_hip_and_spine(drawn):
    for t_score in drawn.T[2:]:
        assert t_score.min() < -4.0
        assert t_score.max() > 2.0
        # No step of half an SD in between is left out.
        assert np.all(np.histogram(t_score, np.arange(-4.0, 2.1, 0.5))[0] >= 10)


def test_t_scores_have_their_sources_means_and_spread_by_age_and_sex(drawn):
    """Means of NHANES 2005-2010 within 0.15, a spread of 1.25 SD, together by 0.65."""
    hip_apart, spine_apart = [], []
    for woman, sex in ((1.0, "F"), (0.0, "M")):
        for low in (45.0, 60.0, 75.0):
            of = drawn[(drawn[:, 0] == woman) & (drawn[:, 1] >= low) & (drawn[:, 1] < low + 15.0)]
            hip = of[:, 2] - [mean_t_score("total_hip", sex, age) for age in of[:, 1]]
            spine = of[:, 3] - [mean_t_score("lumbar_l1_l4", sex, age) for age in of[:, 1]]
            assert hip.mean() == pytest.approx(0.0, abs=0.15)
            assert spine.mean() == pytest.approx(0.0, abs=0.15)
            hip_apart.append(hip)
            spine_apart.append(spine)
    hip, spine = np.concatenate(hip_apart), np.concatenate(spine_apart)
    assert hip.std() == pytest.approx(1.25, abs=0.08)
    assert spine.std() == pytest.approx(1.25, abs=0.08)
    assert np.corrcoef(hip, spine)[0, 1] == pytest.approx(0.65, abs=0.05)
