"""Calibration by phantom over simulated scans: right fits, and refusals of what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from hierbmd.data.phantoms import phantom_names
from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid

QUICK = (
    (phantom_names()[0], "metal streaks"),
    (phantom_names()[1], "missing rod"),
    (phantom_names()[2], "swapped rods"),
)


@pytest.mark.parametrize("phantom", phantom_names())
def test_a_drawn_scan_of_each_phantom_is_calibrated_right(bench, phantom):
    row = bench("calibration").trial(phantom, 1)
    assert row["outcome"] == "calibrated"
    assert row["right"]


@pytest.mark.parametrize(("phantom", "kind"), QUICK)
def test_a_provoked_scan_gives_no_wrong_fit(bench, phantom, kind):
    calibration = bench("calibration")
    row = calibration.trial(phantom, 1000, kind)
    assert row["kind"] == kind
    assert not calibration.wrong_fits([row])


def test_a_wrong_fit_is_called_wrong(bench):
    """The judge itself: the same fit, its slope 1.5 % off, or its zero 5 mg/cm3 off."""
    from dataclasses import replace

    from hierbmd.calibration.phantom import calibrate_by_phantom
    from hierbmd.simulation.scanner import scan

    calibration, scans = bench("calibration"), bench("calibration_scans")
    rng = np.random.default_rng(3)
    body = scans.body_of(rng)
    options = replace(scans.options_of("B-MAS200", rng, serial=1), cupping_hu=0.0, fov_mm=450.0)
    found = scan(body, options, 1)
    line = calibrate_by_phantom(found.volume, found.phantom.phantom)
    assert calibration._judged(line, found, body)["right"]
    for wrong in (replace(line, slope=1.015 * line.slope), replace(line, intercept=line.intercept + 7.0)):
        row = {"outcome": "calibrated", "kind": "", **calibration._judged(wrong, found, body)}
        assert calibration.wrong_fits([row]) == [row]


def test_streaks_are_rays_out_of_a_point(bench):
    grid = Grid((60, 50, 4), np.diag([2.0, 2.0, 5.0, 1.0]))
    plain = Volume(np.zeros((60, 50, 4), np.float32), grid)
    values = bench("calibration_scans").streaked(plain, np.array([60.0, 50.0]), np.random.default_rng(0)).values
    assert np.ptp(values[..., -1]) > 100.0
    assert not values[..., 0].any() or np.array_equal(values[..., 0], values[..., -1])


def test_a_stopped_run_goes_on_where_it_was(bench, tmp_path, monkeypatch):
    calibration, done = bench("calibration"), []
    monkeypatch.setattr(calibration, "KINDS", ("swapped rods",))

    def trial(phantom, number, kind=""):
        if len(done) == 3 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        done.append((phantom, number, kind))
        return {"phantom": phantom, "number": number, "kind": kind, "outcome": "RodsDisagree", "reason": ""}

    monkeypatch.setattr(calibration, "trial", trial)
    path = tmp_path / "calibration.json"
    with pytest.raises(KeyboardInterrupt):
        calibration.run(path, 1, 1)
    rows = calibration.run(path, 1, 1)
    assert len(done) == len(set(done)) == len(rows) == 2 * len(phantom_names())


@pytest.mark.slow
def test_no_wrong_fit_over_many_scans(bench):
    """Ten scans of each phantom and one provocation of each kind, others than the page's."""
    calibration = bench("calibration")
    plain = [calibration.trial(phantom, 500 + n) for n in range(10) for phantom in phantom_names()]
    provoked = [
        calibration.trial(phantom, 1500 + n, kind)
        for n, kind in enumerate(calibration.KINDS)
        for phantom in phantom_names()
    ]
    assert calibration.wrong_fits(plain + provoked) == []
    fits = [row for row in plain if row["outcome"] == "calibrated"]
    assert len(fits) >= 36
    assert max(abs(row["slope_percent"]) for row in fits) < calibration.SLOPE_PERCENT
