"""Clinical variables as numbers."""

from __future__ import annotations

import math

import pytest

from hierbmd.data.clinical import Clinical


@pytest.mark.parametrize(("sex", "female"), [("F", 1.0), ("M", 0.0), ("O", math.nan), ("", math.nan)])
def test_what_is_not_known_is_not_a_number(sex, female):
    found = Clinical(age=71.0, sex=sex, weight_kg=64.5).numbers()
    assert list(found) == ["age", "female", "height_cm", "weight_kg"]
    expected = [71.0, female, math.nan, 64.5]
    assert list(found.values()) == pytest.approx(expected, nan_ok=True)
