"""What a manifest's calibration column may say."""

from __future__ import annotations

import pytest

from hierbmd.calibration.line import given_calibration
from hierbmd.calibration.source import calibration_from
from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.io.calibration_file import read_calibration, write_calibration
from hierbmd.io.phantom_file import write_phantom


def test_a_name_a_rod_table_and_a_line(scan_of, tmp_path):
    """The rod table of the scan's own serial fits it better than the nominal rods of its name."""
    scan = scan_of("B-MAS200")
    write_phantom(tmp_path / "ours.json", scan.phantom.phantom)
    ours, nominal = (calibration_from(source, scan.volume) for source in (tmp_path / "ours.json", "B-MAS200"))
    true = scan.lines[ours.material].slope
    assert ours.slope == pytest.approx(true, rel=0.002)
    assert abs(nominal.slope - true) > abs(ours.slope - true)
    write_calibration(tmp_path / "calibration.json", ours)
    assert calibration_from(tmp_path / "calibration.json", scan.volume) == read_calibration(
        tmp_path / "calibration.json"
    )
    assert read_calibration(tmp_path / "calibration.json") == ours


def test_what_is_neither_is_refused(scan_of, tmp_path):
    volume = scan_of("B-MAS200").volume
    with pytest.raises(BadConfig, match="B-MAS200"):
        calibration_from("B-MAS", volume)
    line = given_calibration(0.8, 0.0)
    write_calibration(tmp_path / "wrong.json", line)
    text = (tmp_path / "wrong.json").read_text().replace("0.8", "0.0008")
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(SuspectedUnit, match="multiply by 1000"):
        calibration_from(tmp_path / "wrong.json", volume)
