"""The examples run as they stand, and say what they should."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example with arguments in this process; returns what it prints."""

    def output(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return output


def test_drr_of_a_phantom(run, tmp_path):
    text = run("drr_of_a_phantom.py", tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} >= {"attenuation.png", "femur_left.png", "hip_right.png"}
    heaviest = float(text.split("femur_left: up to ")[1].split()[0])
    assert 0.3 < heaviest < 4.0


def test_register_a_bone(run):
    text = run("register_a_bone.py")
    assert "femur_right: converged" in text
    assert float(text.split("in plane ")[1].split()[0]) < 2.0


def test_agreement(run):
    text = run("agreement.py")
    assert "pearson_r" in text
    assert "30 degrees of freedom" in text


def test_every_example_is_run():
    here = Path(__file__).read_text() + (Path(__file__).parent / "cli" / "test_demo.py").read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in here] == []
