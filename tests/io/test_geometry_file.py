"""The geometry file: what is written is read back, and every fault is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hierbmd.errors import BadConfig, GeometryMissing, NotRigid, OutputUnwritable, SuspectedUnit
from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.geometry_file import geometry_to_json, read_geometry, write_geometry


@pytest.fixture
def geometry():
    placement = Placement(View.LAT, np.array([10.0, -20.0, 30.0]), 800.0)
    camera = Camera(1040.0, (256, 512), (0.9, 1.1), (120.0, 260.5))
    return ProjectionGeometry(camera, placement.camera_from_world(Motion(3, -4, 5, 6, 7, 8)), View.LAT, Side.LEFT)


def written(folder, value):
    path = folder / "geometry.json"
    path.write_text(json.dumps(value))
    return path


def test_read_back_is_exact(tmp_path, geometry):
    write_geometry(tmp_path / "g.json", geometry)
    again = read_geometry(tmp_path / "g.json")
    assert again.camera == geometry.camera
    assert np.array_equal(again.camera_from_world, geometry.camera_from_world)
    assert (again.view, again.side) == (View.LAT, Side.LEFT)


def test_file_holds_the_contracts_keys(geometry):
    assert set(geometry_to_json(geometry)) == {
        "frame", "sdd_mm", "size_px", "pixel_mm", "principal_px", "camera_from_world", "view", "side",
    }  # fmt: skip


@pytest.mark.parametrize("beam", ["parallel", "slot"])
def test_beam_that_is_no_cone_is_kept(tmp_path, geometry, beam):
    other = replace(geometry, camera=replace(geometry.camera, beam=beam))
    write_geometry(tmp_path / "g.json", other)
    assert read_geometry(tmp_path / "g.json").camera == other.camera


def test_beam_that_does_not_exist_is_refused(tmp_path, geometry):
    with pytest.raises(BadConfig, match="unknown beam 'fan'"):
        read_geometry(written(tmp_path, geometry_to_json(geometry) | {"beam": "fan"}))


def test_principal_point_defaults_to_the_centre_and_side_to_none(tmp_path, geometry):
    value = geometry_to_json(geometry)
    del value["principal_px"], value["side"]
    again = read_geometry(written(tmp_path, value))
    assert again.camera.principal_px == (127.5, 255.5)
    assert again.side is Side.NONE


def test_geometry_inside_a_result_is_read(tmp_path, geometry):
    path = written(tmp_path, {"quantity": "density", "geometry": geometry_to_json(geometry)})
    assert read_geometry(path).camera == geometry.camera


@pytest.mark.parametrize("key", ["frame", "sdd_mm", "size_px", "pixel_mm", "camera_from_world", "view"])
def test_missing_key_is_named(tmp_path, geometry, key):
    value = geometry_to_json(geometry)
    del value[key]
    with pytest.raises(GeometryMissing, match=f"no {key}"):
        read_geometry(written(tmp_path, value))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"frame": "RAS-mm"}, BadConfig, "unknown frame 'RAS-mm'"),
        ({"view": "OBL"}, BadConfig, "unknown view"),
        ({"side": "links"}, BadConfig, "unknown side"),
        ({"pixels_mm": [1, 1]}, BadConfig, "nearest key: pixel_mm"),
        ({"sdd_mm": 1.04}, SuspectedUnit, "sdd_mm 1.04 looks like metres"),
        ({"sdd_mm": 1.04e6}, SuspectedUnit, "micrometres"),
        ({"pixel_mm": [0.000143, 0.000143]}, SuspectedUnit, "pixel_mm 0.000143 looks like metres"),
        ({"pixel_mm": [143.0, 0.143]}, SuspectedUnit, "micrometres"),
        ({"sdd_mm": -1000.0}, GeometryMissing, "not above zero"),
        ({"sdd_mm": True}, GeometryMissing, "one finite number"),
        ({"sdd_mm": float("nan")}, GeometryMissing, "one finite number"),
        ({"pixel_mm": 1.0}, GeometryMissing, "2 finite numbers"),
        ({"size_px": [10.5, 3]}, GeometryMissing, "no image size"),
        ({"size_px": [0, 3]}, GeometryMissing, "no image size"),
        ({"camera_from_world": [[1, 0, 0, 0]]}, GeometryMissing, "4x4"),
        ({"camera_from_world": [["1", 0, 0, 0]] * 4}, GeometryMissing, "4x4"),
        ({"camera_from_world": np.diag([-1.0, 1, 1, 1]).tolist()}, NotRigid, "determinant -1"),
        ({"camera_from_world": np.diag([1e-3, 1e-3, 1e-3, 1]).tolist()}, NotRigid, "not rigid"),
    ],
)
def test_fault_is_refused_by_name(tmp_path, geometry, change, error, text):
    with pytest.raises(error, match=text) as refused:
        read_geometry(written(tmp_path, geometry_to_json(geometry) | change))
    assert str(tmp_path / "geometry.json") in str(refused.value)


def test_not_json_and_not_an_object_are_refused(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BadConfig, match="not a readable JSON file"):
        read_geometry(tmp_path / "bad.json")
    with pytest.raises(GeometryMissing, match="no JSON object"):
        read_geometry(written(tmp_path, [1, 2]))
    with pytest.raises(BadConfig):
        read_geometry(tmp_path / "absent.json")


def test_folder_that_cannot_be_written_is_named(tmp_path, geometry):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable):
        write_geometry(tmp_path / "file" / "g.json", geometry)
