"""TotalSegmentator by a stand-in for its command."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import hierbmd.anatomy.totalsegmentator as totalsegmentator_module
from hierbmd.anatomy.segmenter_options import SegmenterOptions
from hierbmd.anatomy.totalsegmentator import STRUCTURES, totalsegmentator_labels
from hierbmd.cli.main import main
from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import MissingExtra, SegmenterFailed
from hierbmd.geometry import Grid
from hierbmd.io.image import write_labels, write_volume

_STAND_IN = """#!{python}
import json, pathlib, shutil, sys
given = sys.argv[1:]
pathlib.Path({folder!r}, "arguments.json").write_text(json.dumps(given))
ct = given[given.index("-i") + 1]
assert pathlib.Path(ct).is_file()
{act}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """`stand_in(act)` puts a TotalSegmentator on PATH that notes its arguments and does `act`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(act: str) -> Path:
        command = folder / "TotalSegmentator"
        command.write_text(_STAND_IN.format(python=sys.executable, folder=str(folder), act=act))
        command.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder / "arguments.json"

    return make


def _copies(path: Path) -> str:
    return f"shutil.copy({str(path)!r}, given[given.index('-o') + 1])"


def test_totalsegmentator_is_run_and_its_labels_pass_the_same_checks(coarse_patient, stand_in, tmp_path):
    write_volume(tmp_path / "ct.nii.gz", coarse_patient.volume)
    write_labels(tmp_path / "its.nii.gz", coarse_patient.labels)
    noted = stand_in(_copies(tmp_path / "its.nii.gz"))
    out = tmp_path / "out"
    assert main(["segment", str(tmp_path / "ct.nii.gz"), "--segmenter", "totalsegmentator", "--out", str(out)]) == 0
    found = json.loads((out / "segmentation.json").read_text())
    assert found["segmenter"] == "totalsegmentator"
    assert found["femora"]["femur_left"]["side_by_neck"] == "left"
    given = json.loads(noted.read_text())
    assert given[given.index("--task") + 1] == "total"
    assert "--ml" in given
    assert tuple(given[given.index("--roi_subset") + 1 :]) == STRUCTURES
    assert str(tmp_path) not in given[given.index("-i") + 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("sides", "leads away from its head|lies to the right of"),
        ("size", "does not lie on bone|has .* cm3"),
        ("elsewhere", "does not overlap"),
    ],
)
def test_a_segmenters_wrong_answer_is_refused(coarse_patient, stand_in, tmp_path, capsys, change, reason):
    labels = coarse_patient.labels
    ids, matrix = labels.ids.copy(), labels.grid.world_from_index.copy()
    if change == "sides":
        for left in ("femur", "hip"):
            ids[labels.mask(f"{left}_left")] = TOTALSEGMENTATOR_V2[f"{left}_right"]
            ids[labels.mask(f"{left}_right")] = TOTALSEGMENTATOR_V2[f"{left}_left"]
    elif change == "size":
        ids[ids == 0] = TOTALSEGMENTATOR_V2["femur_left"]
    else:
        matrix[:3, 3] += 5000.0
    write_labels(tmp_path / "its.nii.gz", LabelMap(ids, Grid(labels.grid.shape, matrix), labels.scheme))
    write_volume(tmp_path / "ct.nii.gz", coarse_patient.volume)
    stand_in(_copies(tmp_path / "its.nii.gz"))
    arguments = ["--segmenter", "totalsegmentator", "--out", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path / "ct.nii.gz"), *arguments]) == 1
    assert re.search(reason, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("act", "limit_s", "reason"),
    [
        ("sys.exit('no weights here')", 600.0, "status 1: no weights here"),
        ("pass", 600.0, "left no label map"),
        ("import time; time.sleep(600)", 0.5, "took longer than 0.5 s"),
    ],
)
def test_a_segmenter_that_fails_is_one_line(stand_in, act, limit_s, reason):
    stand_in(act)
    volume = Volume(np.zeros((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(SegmenterFailed, match=reason):
        totalsegmentator_labels(volume, SegmenterOptions(segmenter="totalsegmentator", limit_s=limit_s))


def test_without_the_command_the_package_is_run_and_without_both_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(totalsegmentator_module.importlib.util, "find_spec", lambda name: None)
    volume = Volume(np.zeros((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(MissingExtra, match="TotalSegmentator is not installed"):
        totalsegmentator_labels(volume, SegmenterOptions(segmenter="totalsegmentator"))
    package = tmp_path / "totalsegmentator" / "bin"
    package.mkdir(parents=True)
    (package / "TotalSegmentator.py").write_text("def main():\n    raise SystemExit('the package was run')\n")
    monkeypatch.setattr(totalsegmentator_module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SegmenterFailed, match="the package was run"):
        totalsegmentator_labels(volume, SegmenterOptions(segmenter="totalsegmentator"))


def test_a_segmenter_that_is_nowhere_is_refused(coarse_patient, tmp_path, capsys):
    write_volume(tmp_path / "ct.nii.gz", coarse_patient.volume)
    arguments = ["--segmenter", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path / "ct.nii.gz"), *arguments]) == 1
    assert "no such segmenter" in capsys.readouterr().err
