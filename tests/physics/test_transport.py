"""Photons through water one by one, and what the quick scatter model says of the same."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.physics.attenuation import mass_attenuation_cm2_g
from hierbmd.physics.scatter import GRIDS, scatter_image
from hierbmd.physics.spectrum import monoenergetic, tube_spectrum
from hierbmd.physics.transport import StripGrid, pencil_through_water, through_grid

SPECTRUM = tube_spectrum(80.0, "3.0 mm Al + 0.1 mm Cu")


@pytest.fixture(scope="module")
def behind_20_cm():
    return pencil_through_water(SPECTRUM, 20.0, 150_000, seed=4)


def _ratio(exits):
    primary = exits.scatters == 0
    return exits.signal[~primary].sum() / exits.signal[primary].sum()


def test_the_primary_is_beer_and_lambert():
    exits = pencil_through_water(monoenergetic(60.0), 10.0, 100_000)
    primary = np.mean(np.bincount(exits.scatters)[0]) / 100_000
    assert primary == pytest.approx(np.exp(-10.0 * mass_attenuation_cm2_g("water", 60.0)), rel=0.02)


def test_photons_scattered_once_lose_what_compton_says():
    """Energy after one incoherent scatter through theta is E / (1 + E/511 (1 - cos theta)), or E if coherent."""
    exits = pencil_through_water(monoenergetic(60.0), 2.0, 50_000)
    once = exits.scatters == 1
    compton = 60.0 / (1.0 + 60.0 / 510.999 * (1.0 - exits.direction[once, 2]))
    inelastic = exits.energy_kev[once] < 60.0 - 1e-9
    assert exits.energy_kev[once][inelastic] == pytest.approx(compton[inelastic], rel=1e-9)
    assert 0.02 < 1.0 - inelastic.mean() < 0.4
    coherent, incoherent = exits.direction[once, 2][~inelastic], exits.direction[once, 2][inelastic]
    assert np.median(coherent) > 0.95 > np.median(incoherent)


@pytest.mark.parametrize(("thickness_cm", "photons"), [(10.0, 60_000), (20.0, 150_000), (25.0, 250_000)])
def test_the_transport_kernel_has_the_scatter_of_the_photons(thickness_cm, photons):
    """At the middle of a field without end and of one of 20 x 20 cm; the pencil's disc of equal area stands for it."""
    exits = pencil_through_water(SPECTRUM, thickness_cm, photons, seed=4)
    primary = np.full((150, 150), 1.0, np.float32)
    water_cm = np.full(primary.shape, thickness_cm, np.float32)
    whole = scatter_image(primary, water_cm, (10.0, 10.0), "transport")[75, 75]
    assert whole == pytest.approx(_ratio(exits), rel=0.06)
    rows, columns = np.indices((160, 160)) - 79.5
    disc = (np.hypot(rows, columns) * 2.0 < 112.8).astype(np.float32)
    within = exits.radius_mm[exits.scatters > 0] < 112.8
    expected = exits.signal[exits.scatters > 0][within].sum() / exits.signal[exits.scatters == 0].sum()
    small = scatter_image(disc, np.full(disc.shape, thickness_cm, np.float32), (2.0, 2.0), "transport")[79:81, 79:81]
    assert small.mean() == pytest.approx(expected, rel=0.08)


def test_scatter_fraction_of_a_pelvis_is_in_the_range_of_the_photons(behind_20_cm):
    """20 cm at 80 kVp: above 0.75 without a grid, a quarter to a third of what is left behind an aluminium one."""
    ratio = _ratio(behind_20_cm)
    assert 0.78 < ratio / (1.0 + ratio) < 0.84
    for name, low, high in (("8:1 aluminium", 0.35, 0.45), ("12:1 aluminium", 0.22, 0.32)):
        behind = ratio * GRIDS[name].scatter / GRIDS[name].primary
        assert low < behind / (1.0 + behind) < high


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("8:1 aluminium", StripGrid(8)),
        ("10:1 aluminium", StripGrid(10)),
        ("12:1 aluminium", StripGrid(12)),
        ("13:1 fibre", StripGrid(13, 44.0, 0.036, fibre=True)),
    ],
)
def test_grids_pass_what_their_strips_let_through(behind_20_cm, name, grid):
    passed, primary = through_grid(behind_20_cm, grid) * behind_20_cm.signal, behind_20_cm.scatters == 0
    of_primary = passed[primary].sum() / behind_20_cm.signal[primary].sum()
    of_scatter = passed[~primary].sum() / behind_20_cm.signal[~primary].sum()
    assert GRIDS[name].primary == pytest.approx(of_primary, rel=0.03)
    assert GRIDS[name].scatter == pytest.approx(of_scatter, rel=0.06)


def test_a_grid_of_nothing_passes_all_and_a_straight_photon_sees_the_strips_share(behind_20_cm):
    assert through_grid(behind_20_cm, StripGrid(10, 40.0, 0.0, fibre=True)) == pytest.approx(1.0)
    straight = through_grid(behind_20_cm, StripGrid(12, fibre=True))[behind_20_cm.scatters == 0]
    assert np.mean(straight) == pytest.approx(0.8, abs=0.02)
