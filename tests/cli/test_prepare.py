"""`hierbmd prepare`: what it says before any work is done."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hierbmd.cli.main import main


@pytest.fixture
def manifest(tmp_path):
    for name in ("ct.nii.gz", "x.dcm"):
        (tmp_path / name).write_bytes(b"no image")
    path = tmp_path / "manifest.csv"
    path.write_text("subject,ct,radiograph\nP1,ct.nii.gz,x.dcm\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--slope", "0.8"], "--slope and --intercept go together"),
        (["--slope", "0.0008", "--intercept", "0"], "multiply by 1000"),
        (["--workers=-1"], "below zero"),
        (["--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers"),
        (["--split-shares", "0.5,0.1,0.1"], "do not sum to 1"),
    ],
)
def test_options_that_cannot_be_are_refused(manifest, tmp_path, capsys, monkeypatch, arguments, why):
    monkeypatch.setattr("hierbmd.parallel._CONNECT_S", 0.5)
    out = tmp_path / "out"
    assert main(["prepare", str(manifest), "--out", str(out), *arguments]) == 1
    assert why in capsys.readouterr().err
    assert not out.exists()


def test_when_nothing_could_be_used_the_first_reason_is_said_and_all_are_in_the_table(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", str(manifest), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "not one pair could be made" in said
    assert "uncalibrated" in said
    assert "Uncalibrated" in (out / "refusals.csv").read_text()
    assert not (out / "dataset.json").exists()


def test_a_bad_manifest_is_refused_with_its_line(manifest, tmp_path, capsys):
    manifest.write_text("subject,ct,radiograph\nP1,../ct.nii.gz,x.dcm\n")
    assert main(["prepare", str(manifest), "--out", str(tmp_path / "out")]) == 1
    assert "manifest.csv line 2" in capsys.readouterr().err


def test_the_options_module_of_a_cohort_is_light():
    """Workers set their thread counts before numba is imported, so importing the cohort must not import it."""
    code = "import sys, hierbmd.cohort; print([m for m in ('numba', 'torch', 'SimpleITK') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
