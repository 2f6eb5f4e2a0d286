"""The heel effect: along the tube's axis only, weaker towards the anode, steeper for the steeper anode."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.errors import BadConfig
from hierbmd.geometry import Beam, Camera
from hierbmd.physics.heel import anode_angles_deg, heel_factor

CAMERA = Camera(1150.0, (43, 45), (10.0, 10.0))


def test_the_anode_is_opposite_the_cathode():
    angles = anode_angles_deg(CAMERA, "up")
    assert angles[-1, 21] == pytest.approx(np.degrees(np.arctan(220.0 / 1150.0)))
    assert angles[0, 0] == pytest.approx(-angles[-1, 0])
    assert np.ptp(angles[10]) == 0.0
    assert anode_angles_deg(CAMERA, "left")[3, 42] > 0 > anode_angles_deg(CAMERA, "right")[3, 42]
    slot = Camera(1150.0, (43, 45), (10.0, 10.0), beam=Beam.SLOT)
    assert not anode_angles_deg(slot, "up").any()
    assert anode_angles_deg(slot, "left").any()


def test_on_the_axis_there_is_none_and_the_anode_side_is_weak():
    angles = np.array([-10.0, 0.0, 5.0, 10.0])
    factor = heel_factor(angles, np.zeros(4), kvp=80.0)
    assert factor[1] == pytest.approx(1.0)
    assert 0.65 < factor[3] < 0.78
    assert 0.93 < factor[2] < 0.98
    assert 0.97 < factor[0] < 1.03


def test_it_is_less_behind_a_patient_and_with_a_flatter_anode_and_more_at_high_voltage():
    at = np.array([9.0])

    def loss(**kwargs):
        return 1.0 - heel_factor(at, np.full(1, kwargs.pop("water_cm", 0.0)), **{"kvp": 80.0, **kwargs})[0]

    assert loss(water_cm=20.0) < 0.8 * loss()
    assert loss(anode_deg=16) < 0.6 * loss()
    assert loss(kvp=120.0) > 1.3 * loss()


def test_it_is_what_self_absorption_in_the_anode_gives():
    """A source at depth d in tungsten: exp(-mu d (1/sin(anode - angle) - 1/sin(anode))), one depth for all angles."""
    anode = np.radians(12.0)
    angles = np.array([2.0, 4.0, 6.0, 8.0, 10.0])
    logs = -np.log(heel_factor(angles, np.full(5, 20.0), kvp=80.0))
    logs -= -np.log(heel_factor(-angles, np.full(5, 20.0), kvp=80.0))
    path = 1.0 / np.sin(anode - np.radians(angles)) - 1.0 / np.sin(anode + np.radians(angles))
    slope = np.sum(logs * path) / np.sum(path**2)
    assert logs == pytest.approx(slope * path, abs=0.03)


def test_other_anodes_are_refused():
    with pytest.raises(BadConfig, match="anode"):
        heel_factor(np.zeros(1), np.zeros(1), kvp=80.0, anode_deg=7)
