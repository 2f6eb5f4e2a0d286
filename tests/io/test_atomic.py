"""A write happens whole or not at all."""

import json

import pytest

from hierbmd.errors import BadConfig, OutputUnwritable
from hierbmd.io.atomic import atomic_path, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    target = tmp_path / "value.json"
    write_json(target, {"value": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("the writer died")
    assert read_json(target) == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_the_temporary_keeps_the_suffixes_that_writers_go_by(tmp_path):
    with atomic_path(tmp_path / "deep" / "ct.nii.gz") as temporary:
        assert temporary.name.endswith("ct.nii.gz")
        temporary.write_bytes(b"x")
    assert (tmp_path / "deep" / "ct.nii.gz").read_bytes() == b"x"


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("not a folder")
    with pytest.raises(OutputUnwritable, match="cannot write"):
        write_json(tmp_path / "out" / "value.json", 1)


def test_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", float("nan"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_missing_or_broken_json_file_is_refused(tmp_path, text):
    path = tmp_path / "value.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadConfig, match=r"value\.json"):
        read_json(path)


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "value.json").write_bytes(b"\xef\xbb\xbf" + json.dumps([1]).encode())
    assert read_json(tmp_path / "value.json") == [1]
