"""Reading a manifest: what is kept, what is refused, and that the line is named (FAULTS 25)."""

from __future__ import annotations

import pytest

from hierbmd.errors import BadManifest, SuspectedUnit
from hierbmd.geometry import Motion, Side, View
from hierbmd.io.manifest import read_manifest

HEADER = (
    "subject,ct,labels,radiograph,view,side,pose,calibration,bmd_g_cm2,bmd_source,age,sex,height_cm,weight_kg,split"
)


def _write(folder, *lines, header=HEADER):
    for name in ("a.nii.gz", "l.nii.gz", "x.dcm", "y.dcm", "c.json"):
        (folder / name).touch()
    (folder / "series").mkdir(exist_ok=True)
    (folder / "series" / "1.dcm").touch()
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_full_row_is_read(tmp_path):
    path = _write(
        tmp_path,
        "P-1,series,l.nii.gz,x.dcm,ap,left,-1 2 3 -4.5 5 6,c.json,0.91,dxa,71,female,158,55,train,north",
        header=HEADER + ",site",
    )
    manifest = read_manifest(path)
    (row,) = manifest.rows
    assert row.ct == tmp_path / "series"
    assert row.radiograph == tmp_path / "x.dcm"
    assert (row.view, row.side, row.sex, row.split) == (View.AP, Side.LEFT, "F", "train")
    assert row.pose == Motion(-1, 2, 3, -4.5, 5, 6)
    assert (row.bmd_g_cm2, row.bmd_source, row.age) == (0.91, "dxa", 71.0)
    assert row.extra == {"site": "north"}
    assert manifest.subjects == ("P-1",)


def test_the_calibration_may_be_a_phantoms_name(tmp_path):
    path = _write(tmp_path, "P1,a.nii.gz,x.dcm,B-MAS200", header="subject,ct,radiograph,calibration")
    (row,) = read_manifest(path).rows
    assert (row.calibration, row.phantom) == (None, "B-MAS200")
    path = _write(tmp_path, "P1,a.nii.gz,x.dcm,B-MAS", header="subject,ct,radiograph,calibration")
    with pytest.raises(BadManifest, match="is missing"):
        read_manifest(path)


def test_only_three_columns_are_needed_and_blank_lines_are_skipped(tmp_path):
    path = _write(tmp_path, "P1,a.nii.gz,x.dcm", "", "P1,a.nii.gz,y.dcm", header="subject,ct,radiograph")
    rows = read_manifest(path).rows
    assert [row.line for row in rows] == [2, 4]
    assert rows[0].view is rows[0].side is rows[0].labels is rows[0].age is None


GOOD = {"subject": "P1", "ct": "a.nii.gz", "radiograph": "x.dcm"}


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ({"ct": "../a.nii.gz"}, "goes up"),
        ({"ct": "series/../a.nii.gz"}, "goes up"),
        ({"ct": "/etc/hostname"}, "leaves the manifest's folder"),
        ({"ct": "link.nii.gz"}, "leaves the manifest's folder"),
        ({"ct": "linked"}, "leaves the manifest's folder"),
        ({"labels": "none.nii.gz"}, "is missing"),
        ({"labels": "x" * 5000}, "is missing"),
        ({"radiograph": ""}, "needs a ct and a radiograph"),
        ({"subject": "=cmd|' /C calc'!A0"}, "formula"),
        ({"site": "=1+1"}, "formula"),
        ({"site": "@SUM(A1)"}, "formula"),
        ({"bmd_source": "-2+3+cmd"}, "formula"),
        ({"subject": "a/b"}, "is no id"),
        ({"subject": ""}, "is no id"),
        ({"pose": "1 2 3"}, "six numbers"),
        ({"pose": "1 2 3 4 5 six"}, "six numbers"),
        ({"view": "oblique"}, "not one of AP, PA, LAT"),
        ({"side": "port"}, "not one of left"),
        ({"split": "training"}, "not one of train"),
        ({"age": "old"}, "not a number"),
        ({"sex": "x"}, "not one of F"),
        ({"bmd_g_cm2": "0.9", "side": "both"}, "of one side"),
        ({"bmd_g_cm2": "0.9"}, "of one side"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, cells, what):
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "a.nii.gz").touch()
    header = HEADER + ",site"
    row = dict.fromkeys(header.split(","), "") | GOOD
    path = _write(inside, ",".join(row.values()), ",".join((row | cells).values()), header=header)
    (inside / "link.nii.gz").symlink_to(outside / "a.nii.gz")
    (inside / "linked").mkdir()
    (inside / "linked" / "1.dcm").symlink_to(outside / "a.nii.gz")
    with pytest.raises(BadManifest, match=what) as refused:
        read_manifest(path)
    assert "manifest.csv line 3" in str(refused.value)


@pytest.mark.parametrize(
    ("column", "value"), [("height_cm", "1.71"), ("weight_kg", "71000"), ("bmd_g_cm2", "910"), ("age", "1950")]
)
def test_a_value_in_another_unit_is_suspected(tmp_path, column, value):
    row = dict.fromkeys(HEADER.split(","), "") | GOOD | {"side": "left", column: value}
    with pytest.raises(SuspectedUnit, match=rf"{column}.*line 2"):
        read_manifest(_write(tmp_path, ",".join(row.values())))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (b"\xef\xbb\xbfsubject,ct,radiograph\nP1,a.nii.gz,x.dcm\n", 1, "byte-order mark"),
        ("subject,ct,radiograph\n".encode("utf-16"), 1, "byte-order mark"),
        (b"P1,a.nii.gz,x.dcm\n", 1, "no header"),
        (b"", 1, "no header"),
        (b"subject,ct,radiograph,ct\n", 1, "named twice"),
        (b"subject,ct,radiograph\n", 2, "no row"),
        (b"subject,ct,radiograph\nP1,a.nii.gz\n", 2, "2 cells under 3"),
        (b"subject,ct,radiograph\nP1,a.nii.gz,x.dcm\nP1,a.nii.gz,x.dcm\n", 3, "the same as line 2"),
        (b"subject,ct,radiograph\nP1,a.nii.gz,x.dcm\nP\xff,a.nii.gz,x.dcm\n", 3, "not UTF-8"),
        (b'subject,ct,radiograph\nP1,"' + b"a" * 140000 + b'",x.dcm\n', 2, "not CSV"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, text, line, what):
    path = _write(tmp_path)
    path.write_bytes(text)
    with pytest.raises(BadManifest, match=what) as refused:
        read_manifest(path)
    assert f"line {line}" in str(refused.value)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(BadManifest, match=r"none\.csv"):
        read_manifest(tmp_path / "none.csv")
