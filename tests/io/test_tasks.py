"""Resumable tasks: what counts as changed, and that a half-written result is none."""

from __future__ import annotations

import os

import pytest

from hierbmd.errors import OutputUnwritable
from hierbmd.io.tasks import digest, fingerprint, only_one, read_result, write_result


def test_a_result_is_found_only_for_what_it_was_made_from(tmp_path):
    path = tmp_path / "tasks" / "a.json"
    assert read_result(path, "x") is None
    write_result(path, "x", {"pairs": [1]})
    assert read_result(path, "x") == {"pairs": [1]}
    assert read_result(path, "y") is None
    path.write_text(path.read_text()[:20])
    assert read_result(path, "x") is None


def test_a_fingerprint_changes_with_a_file_and_with_a_folders_files(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"1")
    before = digest(fingerprint([series, None]))
    assert digest(fingerprint([series, None])) == before
    (series / "2.dcm").write_bytes(b"2")
    more = digest(fingerprint([series, None]))
    assert more != before
    os.utime(series / "1.dcm", ns=(1, 1))
    assert digest(fingerprint([series, None])) not in (before, more)


def test_a_lock_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputUnwritable, match="cannot write"), only_one(tmp_path / "file" / "a.json"):
        pass
