"""Display curves: what a department's unit keeps, and what differs between units."""

import dataclasses

import numpy as np

from hierbmd.simulation.display import DisplayCurve, draw_curve
from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions, StudyOptions
from hierbmd.simulation.recipe import Recipe

_RANGES = {"low": 0.05, "high": 0.015, "contrast": 3.0, "detail": 0.7}


def _shares(curve: DisplayCurve) -> np.ndarray:
    """How far a curve lies from another, as shares of what is drawn at all."""
    return np.array([dataclasses.asdict(curve)[name] / whole for name, whole in _RANGES.items()])


def test_images_of_one_site_differ_by_a_tenth_of_the_range_and_sites_by_more():
    of_site = np.array([_shares(draw_curve(np.random.default_rng(seed), site=3)) for seed in range(50)])
    assert np.all(np.ptp(of_site, axis=0) <= 0.1 + 1e-9)
    assert np.all(np.std(of_site, axis=0) > 0.01)
    between = np.array([_shares(draw_curve(np.random.default_rng(0), site=site)) for site in range(50)])
    assert np.all(np.ptp(between, axis=0) > 0.5)


def test_without_a_site_every_image_is_any_units():
    drawn = np.array([_shares(draw_curve(np.random.default_rng(seed))) for seed in range(50)])
    assert np.all(np.ptp(drawn, axis=0) > 0.8)


def test_patients_take_turns_between_sites():
    def sites(n: int) -> list[int | None]:
        recipe = Recipe(PatientOptions(), RadiographSimulationOptions(site=7), StudyOptions(sites=n))
        return [recipe.site_of(index) for index in range(4)]

    assert sites(1) == [0, 0, 0, 0]
    assert sites(2) == [0, 1, 0, 1]
    assert sites(0) == [7, 7, 7, 7]
