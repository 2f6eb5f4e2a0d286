"""`simulate --from-ct` from the outside: units and calibrations that cannot be, and what a stop leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.io.image import write_labels, write_volume
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

SMALL = ["--subjects", "2", "--seed", "6", "--size", "40x40", "--pixel-mm", "10", "--step-mm", "4"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small CT with its labels, and the command's arguments for it."""
    folder = tmp_path_factory.mktemp("source")
    patient = virtual_patient(0, PatientOptions(seed=11, spacing_mm=4.0))
    write_volume(folder / "ct.nii.gz", patient.volume)
    write_labels(folder / "labels.nii.gz", patient.labels)
    return folder, ["--from-ct", str(folder / "ct.nii.gz"), "--labels", str(folder / "labels.nii.gz"), *SMALL]


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory, finished_files):
    out = tmp_path_factory.mktemp("whole") / "cohort"
    assert main(["simulate", "--out", str(out), *files[1]]) == 0
    return finished_files(out)


def _refused(capsys, arguments, said):
    assert main(["simulate", *arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hierbmd simulate:")]
    assert len(lines) == 1
    assert said in lines[0]


def test_units_are_suspected_and_nothing_is_written(files, tmp_path, capsys):
    """FAULTS row 22: metres for millimetres in an option and in the CT, g/cm3 in the calibration and as the CT."""
    folder, arguments = files
    out = tmp_path / "out"
    _refused(capsys, ["--out", str(out), *arguments, "--warp-mm", "0.005"], "metres")
    (tmp_path / "line.json").write_text(json.dumps({"slope": 0.00077, "intercept": 0, "material": "HA"}))
    _refused(capsys, ["--out", str(out), *arguments, "--calibration", str(tmp_path / "line.json")], "g/cm3")
    grid = Grid((20, 20, 20), np.diag([0.003, 0.003, 0.003, 1.0]))
    values = np.linspace(-1000, 500, 8000, dtype=np.float32).reshape(20, 20, 20)
    write_volume(tmp_path / "metres.nii.gz", Volume(values, grid))
    labels = str(folder / "labels.nii.gz")
    _refused(capsys, ["--out", str(out), "--from-ct", str(tmp_path / "metres.nii.gz"), "--labels", labels], "metres")
    write_volume(tmp_path / "density.nii.gz", Volume(np.abs(values) / 1000.0, Grid((20, 20, 20), np.eye(4)), "g/cm3"))
    _refused(capsys, ["--out", str(out), "--from-ct", str(tmp_path / "density.nii.gz"), "--labels", labels], "not HU")
    assert not out.exists() or not any(path.is_file() for path in out.rglob("*"))


def test_a_line_without_or_with_two_materials_is_uncalibrated(files, tmp_path, capsys):
    """FAULTS row 23."""
    for line in ({"slope": 0.77, "intercept": 0}, {"slope": 0.77, "intercept": 0, "material": "HA/K2HPO4"}):
        (tmp_path / "line.json").write_text(json.dumps(line))
        given = ["--out", str(tmp_path / "o"), *files[1], "--calibration", str(tmp_path / "line.json")]
        _refused(capsys, given, "uncalibrated")
    _refused(capsys, ["--out", str(tmp_path / "o"), "--calibration", str(tmp_path / "line.json")], "--from-ct")


def test_without_a_calibration_the_truth_says_nominal(files, whole, tmp_path, finished_files):
    """FAULTS row 23: a density without a phantom is never said to be a measured one."""
    out = tmp_path / "again"
    assert main(["simulate", "--out", str(out), *files[1], "--workers", "2"]) == 0
    assert finished_files(out) == whole
    truth = json.loads((out / "truth.json").read_text())
    assert [one["density_line"] for one in truth["subjects"]] == ["nominal"] * 2
    assert [one["split"] for one in truth["subjects"]] == ["test"] * 2
    assert truth["options"]["real"]["warp_mm"] == 5.0
    for one in truth["subjects"]:
        assert 0.1 < one["sides"]["left"]["total_hip_bmd_g_cm2"] < 2.0


def test_killed_and_called_again_it_ends_the_same(files, whole, tmp_path, finished_files):
    """FAULTS row 31: kill -9 while the second subject is made; the same command ends with the same bytes."""
    out = tmp_path / "killed"
    code = "import sys; from hierbmd.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "simulate", "--out", str(out), *files[1]]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(out.glob("subjects/*/truth.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.csv").exists()
    assert main(["simulate", "--out", str(out), *files[1]]) == 0
    assert finished_files(out) == whole


def test_a_full_disk_is_one_line_and_leaves_nothing_half(files, whole, tmp_path, finished_files, on_a_full_disk):
    """FAULTS row 31: no file may grow past 30 kB; with room the same command goes on."""
    out = tmp_path / "full"
    done = on_a_full_disk(["simulate", "--out", str(out), *files[1]], 30_000)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "cannot write" in line]
    assert "Traceback" not in done.stderr
    # What is there is whole: the small calibration file at most, and nothing that says the subject is done.
    assert {path.name for path in out.rglob("*") if path.is_file()} <= {"calibration.json"}
    assert main(["simulate", "--out", str(out), *files[1]]) == 0
    assert finished_files(out) == whole


def test_a_folder_that_cannot_be_written_is_refused(files, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    _refused(capsys, ["--out", str(tmp_path / "taken"), *files[1]], "cannot write")


def test_a_missing_ct_is_refused(files, tmp_path, capsys):
    labels = str(files[0] / "labels.nii.gz")
    _refused(capsys, ["--out", str(tmp_path / "o"), "--from-ct", "none.nii.gz", "--labels", labels], "none.nii.gz")
