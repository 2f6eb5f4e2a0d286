"""`simulate` of virtual patients from the outside: units and phantoms that cannot be, and what a stop leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hierbmd.cli.main import main
from hierbmd.data.phantoms import phantom_of_name, phantom_to_json

SMALL = ["--subjects", "2", "--seed", "8", "--spacing-mm", "6", "--size", "24x24", "--pixel-mm", "9", "--step-mm", "4"]
RUN = "import sys; from hierbmd.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, finished_files):
    out = tmp_path_factory.mktemp("whole") / "cohort"
    assert main(["simulate", "--out", str(out), *SMALL]) == 0
    return finished_files(out)


def _refused(capsys, out, arguments, said):
    assert main(["simulate", "--out", str(out), *SMALL, *arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hierbmd simulate:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "unit"),
    [
        (["--spacing-mm", "0.002"], "mm, not m"),
        (["--sdd-mm", "1.15"], "mm, not m"),
        (["--source-isocenter-mm", "1.0"], "mm, not m"),
        (["--pixel-mm", "0.0016"], "mm"),
        (["--dose-ugy", "0.003"], "microgray"),
        (["--scan", "qct", "--scan-interval-mm", "0.002"], "mm"),
        (["--scan", "qct", "--scan-thickness-mm", "30"], "mm"),
    ],
)
def test_a_unit_that_is_suspected_is_named(tmp_path, capsys, arguments, unit):
    """FAULTS row 22: metres for millimetres, milligray for microgray."""
    _refused(capsys, tmp_path / "out", arguments, unit)


def test_rods_in_g_cm3_without_a_material_or_of_both_are_refused(tmp_path, capsys):
    """FAULTS rows 22 and 23: a phantom's rods are in mg/cm3 of one material, HA or K2HPO4."""
    rods = phantom_to_json(phantom_of_name("B-MAS200"))
    in_g_cm3 = [{**rod, "density_mg_cm3": rod["density_mg_cm3"] / 1000.0} for rod in rods["rods"]]
    both = [{**rods["rods"][0], "water_mg_cm3": 1012.25}, *rods["rods"][1:]]
    wrong = {
        "mg/cm3": {**rods, "rods": in_g_cm3},
        "material": {key: value for key, value in rods.items() if key != "material"},
        "HA and K2HPO4": {**rods, "rods": both},
    }
    for said, table in wrong.items():
        (tmp_path / "phantom.json").write_text(json.dumps(table))
        _refused(capsys, tmp_path / "out", ["--scan", "qct", "--phantom", str(tmp_path / "phantom.json")], said)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_called_again_it_ends_the_same(whole, tmp_path, how, finished_files):
    """FAULTS row 31: ended while the second subject is made; the same command ends with the same bytes."""
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "simulate", "--out", str(out), *SMALL], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("subjects/*/truth.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    said = process.communicate()[1].decode()
    assert process.returncode != 0
    assert "Traceback" not in said
    assert not (out / "manifest.csv").exists()
    assert main(["simulate", "--out", str(out), *SMALL]) == 0
    assert finished_files(out) == whole


def test_a_full_disk_is_one_line_and_leaves_nothing_half(whole, tmp_path, finished_files, on_a_full_disk):
    """FAULTS row 31: no file may grow past 10 kB; with room the same command goes on."""
    out = tmp_path / "full"
    done = on_a_full_disk(["simulate", "--out", str(out), *SMALL], 10_000)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if "cannot write" in line]) == 1
    assert "Traceback" not in done.stderr
    assert {path.name for path in out.rglob("*") if path.is_file()} <= {"calibration.json"}
    assert main(["simulate", "--out", str(out), *SMALL]) == 0
    assert finished_files(out) == whole


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder here that not even root may write to")
def test_a_folder_that_nobody_may_write_to_is_one_line(capsys):
    """FAULTS row 31: a read-only output folder."""
    _refused(capsys, Path("/sys/hierbmd"), [], "cannot write")
