"""The X-ray field: its edges, its penumbra, its turn."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.geometry import Camera
from hierbmd.physics.attenuation import LEAD_G_CM3, mass_attenuation_cm2_g
from hierbmd.physics.collimator import LEAF_MM, LEAF_TRANSMISSION, Field, open_share, penumbra_mm
from hierbmd.physics.spectrum import tube_spectrum

CAMERA = Camera(1150.0, (400, 300), (1.0, 1.0))


def test_the_field_lets_through_its_own_area():
    field = Field((20.0, -10.0), (200.0, 120.0))
    share = open_share(CAMERA, field, focal_spot_mm=1.0)
    assert share.sum() == pytest.approx(200 * 120, rel=0.01)
    rows, columns = np.indices(share.shape)
    assert (share * columns).sum() / share.sum() - 199.5 == pytest.approx(20.0, abs=0.1)
    assert (share * rows).sum() / share.sum() - 149.5 == pytest.approx(-10.0, abs=0.1)
    assert share.max() == 1.0
    assert share.min() == pytest.approx(LEAF_TRANSMISSION)


def test_the_penumbra_is_the_spot_seen_through_the_leaf():
    """Half the spot shows half of the beam at the edge, and the ramp is spot * (sdd - leaf) / leaf wide."""
    camera = Camera(1150.0, (800, 3), (0.1, 0.1))
    share = open_share(camera, Field((0.0, 0.0), (40.0, 400.0)), focal_spot_mm=1.2)[1]
    ramp = np.flatnonzero((share > 0.02) & (share < 0.98))
    right = ramp[ramp > 400]
    assert np.ptp(right) * 0.1 / 0.96 == pytest.approx(1.2 * (1150 - LEAF_MM) / LEAF_MM, rel=0.05)
    assert penumbra_mm(camera, 1.2) == pytest.approx(4.32)
    assert share[599:601].mean() == pytest.approx(0.5, abs=0.02)


def test_a_turned_field_has_turned_corners_that_it_contains():
    field = Field((5.0, 0.0), (200.0, 100.0), rotation_deg=8.0)
    corners = field.corners_mm()
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(200.0)
    slope = np.degrees(np.arctan2(*(corners[1] - corners[0])[::-1]))
    assert slope == pytest.approx(8.0)
    inside = field.contains(CAMERA)
    points = CAMERA.detector_points_mm()[..., :2]
    for corner in corners:
        towards = corner + 0.02 * (np.array(field.centre_mm) - corner)
        nearest = np.unravel_index(np.argmin(np.linalg.norm(points - towards, axis=-1)), inside.shape)
        assert inside[nearest]
    assert field.contains(CAMERA, 10.0).sum() < inside.sum()


def test_two_millimetres_of_lead_stop_more_than_the_leafs_share():
    spectrum = tube_spectrum(80.0, "3.0 mm Al + 0.1 mm Cu")
    through = np.exp(-0.2 * LEAD_G_CM3 * mass_attenuation_cm2_g("lead", spectrum.energy_kev))
    assert np.sum(spectrum.weights() * through) < LEAF_TRANSMISSION
