"""The review page: worst first, no name on it, and what a person decides by key ends in the file that prepare reads."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest

from hierbmd.cli.main import main
from hierbmd.errors import BadConfig
from hierbmd.io.decisions import Decision, read_decisions
from hierbmd.io.image import write_png
from hierbmd.report.curves import curves
from hierbmd.report.registrations import read_entries
from hierbmd.report.review import REASONS, Entry, write_review_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENT = "Example^Patient"


def _bone(similarity, *, converged=True):
    axes = ("rx_deg", "ry_deg", "rz_deg", "tx_mm", "ty_mm", "depth_mm", "in_plane_mm", "starts_in_plane_mm")
    return {
        "outcome": "converged" if converged else "flat: the image does not determine the pose",
        "outcome_code": "converged" if converged else "flat",
        "similarity": similarity,
        "doubt": 2 * (1 - similarity) if converged else None,
        "uncertainty": {**dict.fromkeys(axes, 0.25), "depth_mm": None},
        "start_count": 6,
        "agreeing_starts": 5,
        "trajectory": [[4.0, -2.0, 1.0, 9.0, -8.0, 20.0], [0.5, 0.1, 0.0, 1.0, 0.2, 9.0], [0.0] * 6],
    }


def _entry(folder, key, *similarities, **more):
    picture = folder / f"{PATIENT}_{key}.png"
    write_png(picture, np.tile(np.linspace(0, 1, 60), (30, 1)))
    bones = {name: _bone(s) for name, s in zip(("hip", "femur"), similarities, strict=True)}
    return Entry(key, "left hip", "line 2 of the manifest", bones, dict.fromkeys(bones, picture), PATIENT, **more)


@pytest.fixture
def entries(tmp_path):
    """Four to decide on, of rising similarity from d to a, and one that is refused already."""
    good = [_entry(tmp_path, key, 0.95, s) for key, s in (("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6))]
    lost = _entry(tmp_path, "z", 0.9, 0.9, refused="femur: flat <b>")
    return [*good, lost]


def _keys(page):
    return re.findall(r'<article class="entry" data-key="(\w+)"', page)


def test_the_worst_comes_first_and_the_table_says_what_is_where(entries, tmp_path):
    page = write_review_page(tmp_path / "out", entries).read_text()
    assert _keys(page) == ["z", "d", "c", "b", "a"]
    assert "femur: flat &lt;b&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 10
    assert page.count("<svg") == 20
    with (tmp_path / "out" / "review.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["key"] for row in rows] == _keys(page)
    assert rows[0]["decision"] == "refused"
    assert rows[1]["doubt"] == "0.8"
    assert {row["whose"] for row in rows} == {PATIENT}


def test_the_page_needs_nothing_and_names_no_one(entries, tmp_path):
    page = write_review_page(tmp_path / "out", entries, simulated=True).read_text()
    assert PATIENT not in page
    assert "default-src 'none'" in page
    outside = re.findall(r"""(?:src|href)=["'](?!data:)[^"']*""", page)
    assert outside == []
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "SIMULATED" in page
    assert "Research use only" in page


def test_a_radiograph_with_burned_in_annotation_is_withheld(entries, tmp_path):
    withheld = Entry("w", "left hip", "line 9 of the manifest", entries[0].bones, {}, PATIENT)
    page = write_review_page(tmp_path / "out", [withheld]).read_text()
    assert page.count("Image withheld: the radiograph carries burned-in annotation") == 2
    assert "data:image" not in page


def test_curves_are_drawn_to_scale():
    drawn = curves([[4.0, 0.0, 0.0, 0.0, 0.0, 30.0], [0.0, -2.0, 0.0, 0.0, 0.0, 0.0]])
    assert ">4 deg<" in drawn
    assert ">30 mm<" in drawn
    first = re.findall(r'points="([^"]*)"', drawn)[0]
    (_, top), (_, middle) = (tuple(map(float, point.split(","))) for point in first.split())
    assert top == pytest.approx(16.0)
    assert middle == pytest.approx(43.0)
    assert "No step" in curves([])


def _in_browser(page, script, tmp_path):
    """The text that `script` puts into document.title's place after the page has loaded, in a real browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page's script is not run")
    trial = tmp_path / "trial.html"
    play = f"<script>{PRESS}\n{script}</script></body>"
    trial.write_text(page.replace("</body>", play))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", trial.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return unescape(found.group(1))


PRESS = """const press = (...all) => all.forEach(
  (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }))
);"""

TELL = (
    "const told = document.createElement('pre'); told.id = 'told'; told.textContent = {}; document.body.append(told);"
)


def test_keys_decide_and_the_saved_file_is_read_back(entries, tmp_path):
    entries[1] = _entry(tmp_path, "b", 0.95, 0.8, decision=Decision(True))
    page = write_review_page(tmp_path / "out", entries).read_text()
    # It opens at d: reject for reason 2; c: accept; then a: reject, back to c, take that back.
    script = "press('2', 'a', 'r', 'ArrowLeft', 'ArrowLeft', 'u');" + TELL.format("content()")
    saved = tmp_path / "decisions.json"
    saved.write_text(_in_browser(page, script, tmp_path))
    decided = read_decisions(saved)
    assert decided == {"d": Decision(False, REASONS[1]), "b": Decision(True), "a": Decision(False)}


def test_what_is_refused_already_cannot_be_accepted_and_the_count_is_told(entries, tmp_path):
    page = write_review_page(tmp_path / "out", entries).read_text()
    seen = "document.getElementById('count').textContent + '|' + entries.findIndex((e) => !e.hidden)"
    script = "press('ArrowLeft', 'a'); const before = content(); press('a');" + TELL.format(f"{seen} + '|' + before")
    told = _in_browser(page, script, tmp_path)
    assert told.startswith("1 decided, 0 of them rejected, 3 left|2|")
    assert json.loads(told.split("|")[2])["decisions"] == {}


def test_a_click_decides_and_the_browser_remembers(entries, tmp_path):
    page = write_review_page(tmp_path / "out", entries).read_text()
    click = "document.querySelector('[data-do=reject]').click();" + TELL.format("content()")
    first = json.loads(_in_browser(page, click, tmp_path))["decisions"]
    again = json.loads(_in_browser(page, TELL.format("content()"), tmp_path))["decisions"]
    assert first == {"d": {"decision": "reject", "reason": ""}}
    assert again == first


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "no json",
        '{"version": 2, "decisions": {}}',
        '{"version": 1, "decisions": {"k": "accept"}}',
        '{"version": 1, "decisions": {"k": {"decision": "maybe"}}}',
        '{"version": 1, "decisions": {"k": {"decision": "reject", "reason": 4}}}',
    ],
)
def test_what_is_no_file_of_decisions_is_refused(tmp_path, content):
    path = tmp_path / "decisions.json"
    path.write_text(content)
    with pytest.raises(BadConfig, match=r"decisions\.json"):
        read_decisions(path)


def _registered(folder, *, burned_in=False):
    folder.mkdir()
    bones = {"femur_left": _bone(0.8), "hip_left": _bone(0.2, converged=False)}
    found = {"start": {"seed": folder.name}, "burned_in_annotation": burned_in, "bones": bones}
    (folder / "registration.json").write_text(json.dumps(found))
    for name in bones:
        write_png(folder / f"{name}.png", np.eye(30))
    return folder


def test_many_registrations_become_one_page(tmp_path, capsys):
    folders = [_registered(tmp_path / name, burned_in=name.endswith("3")) for name in ("MRN-1", "MRN-2", "MRN-3")]
    assert main(["review", *map(str, folders), "--out", str(tmp_path / "out")]) == 0
    assert "6 bones of 3 registrations" in capsys.readouterr().out
    page = (tmp_path / "out" / "review.html").read_text()
    assert "MRN" not in page
    assert "MRN-2" in (tmp_path / "out" / "review.csv").read_text()
    assert len(set(_keys(page))) == 6
    assert page.count("Image withheld") == 2
    assert page.count('data-refused="1"') == 3


def test_a_folder_without_a_registration_is_refused(tmp_path):
    with pytest.raises(BadConfig, match=r"registration\.json"):
        read_entries(tmp_path)
    (tmp_path / "registration.json").write_text('{"bones": {}}')
    with pytest.raises(BadConfig, match="not a registration"):
        read_entries(tmp_path)
    folder = _registered(tmp_path / "one")
    (folder / "hip_left.png").unlink()
    with pytest.raises(BadConfig, match="no overlay"):
        read_entries(folder)
