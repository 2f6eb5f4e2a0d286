"""`hierbmd geometry` from the outside: a geometry there and back, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import typing

import numpy as np
import pytest

from hierbmd.cli.geometry import FormatName
from hierbmd.cli.main import main
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import Volume
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io import exchange_plastimatch, geometry_exchange
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.geometry_file import read_geometry, write_geometry
from hierbmd.io.image import write_volume

CENTRE = np.array([10.0, -20.0, 30.0])
PLACE = Placement(View.LAT, CENTRE, 800.0)
GEOMETRY = ProjectionGeometry(
    Camera(1040.0, (24, 17), (0.9, 1.1), (10.2, 9.7)),
    PLACE.camera_from_world(Motion(3, -4, 5, 6, 7, 8)),
    View.LAT,
    Side.LEFT,
)
CENTRED = ProjectionGeometry(Camera(1040.0, (24, 17), (0.9, 1.1)), PLACE.camera_from_world(), View.LAT, Side.LEFT)
FORMATS = typing.get_args(FormatName)
AGAIN = {
    "matrix": ["--size", "24x17", "--sdd-mm", "1040"],
    "dicom": ["--isocenter-mm", "10,-20,30"],
    "nanodrr": [],
    "diffdrr": ["--isocenter-mm", "10,-20,30"],
    "plastimatch": ["--size", "24x17"],
}
"""What each format must be told to be read."""


def run(*arguments):
    return main(["geometry", *map(str, arguments)])


@pytest.fixture
def geometry_file(tmp_path):
    path = tmp_path / "g.json"
    write_geometry(path, GEOMETRY)
    return path


def assert_same(found, expected):
    for name in ("pixel_mm", "centre_px", "sdd_mm"):
        np.testing.assert_allclose(getattr(found.camera, name), getattr(expected.camera, name), rtol=1e-9)
    assert (found.camera.size_px, found.view, found.side) == (expected.camera.size_px, expected.view, expected.side)
    np.testing.assert_allclose(found.camera_from_world, expected.camera_from_world, atol=1e-8)


def test_the_command_knows_the_formats_that_there_are():
    assert tuple(geometry_exchange._READERS) == tuple(geometry_exchange._WRITERS) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back(tmp_path, name):
    # DICOM holds neither a motion nor a principal point.
    geometry = CENTRED if name == "dicom" else GEOMETRY
    write_geometry(tmp_path / "g.json", geometry)
    centre = ["--isocenter-mm", "10,-20,30", "--source-isocenter-mm", "800"]
    assert run(tmp_path / "g.json", "--to", name, "--out", tmp_path / "there", *centre) == 0
    told = [*AGAIN[name], "--view", "LAT", "--side", "left"]
    assert run(tmp_path / "there", "--from", name, "--out", tmp_path / "again.json", *told) == 0
    assert_same(read_geometry(tmp_path / "again.json"), geometry)


def test_from_one_program_to_another(geometry_file, tmp_path):
    run(geometry_file, "--to", "nanodrr", "--out", tmp_path / "n.json")
    assert run(tmp_path / "n.json", "--from", "nanodrr", "--view", "AP", "--to", "matrix", "--out", tmp_path / "m") == 0
    run(geometry_file, "--to", "matrix", "--out", tmp_path / "expected")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "m"), np.loadtxt(tmp_path / "expected"), rtol=1e-9, atol=1e-9)


def test_the_volumes_centre_comes_from_a_ct(geometry_file, tmp_path):
    grid = Grid((5, 7, 9), np.array([[2.0, 0, 0, 6], [0, 2, 0, -26], [0, 0, 2, 22], [0, 0, 0, 1]]))
    values = np.full(grid.shape, -1000, np.float32)
    values[2:4] = 50
    write_volume(tmp_path / "ct.nii.gz", Volume(values, grid))
    run(geometry_file, "--to", "diffdrr", "--out", tmp_path / "a.json", "--ct", tmp_path / "ct.nii.gz")
    run(geometry_file, "--to", "diffdrr", "--out", tmp_path / "b.json", "--isocenter-mm", "10,-20,30")
    poses = [json.loads((tmp_path / name).read_text())["pose"] for name in ("a.json", "b.json")]
    np.testing.assert_allclose(*poses, atol=1e-9)


def test_plastimatchs_options_are_printed_and_read(geometry_file, tmp_path, capsys):
    run(geometry_file, "--to", "plastimatch", "--out", tmp_path / "p.txt", "--source-isocenter-mm", "800")
    command = capsys.readouterr().out
    assert command.startswith("plastimatch drr --nrm ")
    assert exchange_plastimatch.plastimatch_from_command(command).sad == 800.0
    (tmp_path / "command").write_text(command)
    told = ["--from", "plastimatch", "--view", "LAT", "--side", "left"]
    assert run(tmp_path / "command", *told, "--out", tmp_path / "again.json") == 0
    assert_same(read_geometry(tmp_path / "again.json"), GEOMETRY)


def test_a_dicom_radiograph_is_read_itself(tmp_path):
    camera = CENTRED.camera
    pixels = np.linspace(0, 1, 24 * 17, dtype=np.float32).reshape(17, 24)
    radiograph = Radiograph(pixels, camera.pixel_mm, camera.sdd_mm, 800.0, View.LAT, Side.LEFT)
    write_radiograph_dicom(tmp_path / "r.dcm", radiograph)
    told = ["--view", "LAT", "--side", "left", "--isocenter-mm", "10,-20,30"]
    assert run(tmp_path / "r.dcm", "--from", "dicom", *told, "--out", tmp_path / "g.json") == 0
    assert_same(read_geometry(tmp_path / "g.json"), CENTRED)


def test_a_localizers_header_holds_no_cone(shared_data, tmp_path, capsys):
    localizer = shared_data / "head-phantom-pair" / "surview_lateral_localizer.dcm"
    told = ["--view", "LAT", "--isocenter-mm", "0,124.7,0"]
    assert run(localizer, "--from", "dicom", *told, "--out", tmp_path / "g.json") == 1
    assert "no ImagerPixelSpacing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "neither --to nor --from"),
        (["--from", "nanodrr"], "nanodrr does not say the view: {file} (give --view)"),
        (["--from", "nanodrr", "--view", "AP"], "k_inv is not 3x3 finite numbers: {file}"),
        (["--from", "diffdrr", "--view", "AP"], "width is not a finite number"),
        (["--from", "matrix", "--view", "AP"], "does not say the image's size: {file} (give --size)"),
        (["--from", "matrix", "--view", "AP", "--size", "4x4"], "does not say the distance to the detector"),
        (["--from", "matrix", "--view", "AP", "--size", "4x4", "--sdd-mm", "1000"], "not a projection matrix"),
        (["--from", "dicom", "--view", "AP"], "no DistanceSourceToDetector, ImagerPixelSpacing"),
        (["--from", "plastimatch", "--view", "AP"], "does not say the image's size"),
        (["--from", "plastimatch", "--view", "AP", "--size", "4x4"], "not a geometry file of plastimatch"),
        (["--to", "diffdrr"], "does not say where the volume's centre is (give --ct or --isocenter-mm)"),
        (["--to", "diffdrr", "--ct", "ct", "--isocenter-mm", "0,0,0"], "--ct and --isocenter-mm"),
        (["--to", "dicom"], "DICOM has no place for a principal point off the centre"),
    ],
)
def test_refused_in_one_line_with_status_1(geometry_file, tmp_path, capsys, arguments, text):
    assert run(geometry_file, "--out", tmp_path / "out", *arguments) == 1
    said = capsys.readouterr().err
    assert text.format(file=geometry_file) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_dicom_without_a_pose_or_a_distance_is_refused(tmp_path, capsys):
    write_geometry(tmp_path / "g.json", CENTRED)
    run(tmp_path / "g.json", "--to", "dicom", "--out", tmp_path / "d.json")
    assert "hold no pose" in capsys.readouterr().err
    assert run(tmp_path / "d.json", "--from", "dicom", "--view", "AP", "--out", tmp_path / "x") == 1
    assert "give --source-isocenter-mm" in capsys.readouterr().err
    told = ["--view", "AP", "--source-isocenter-mm", "800"]
    assert run(tmp_path / "d.json", "--from", "dicom", *told, "--out", tmp_path / "x") == 1
    assert "DICOM does not say a pose" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "beam"), [(name, Beam.SLOT) for name in FORMATS] + [("matrix", Beam.PARALLEL)])
def test_a_beam_that_the_format_cannot_say_is_refused(tmp_path, capsys, name, beam):
    camera = dataclasses.replace(CENTRED.camera, beam=beam)
    write_geometry(tmp_path / "g.json", dataclasses.replace(CENTRED, camera=camera))
    assert run(tmp_path / "g.json", "--to", name, "--out", tmp_path / "out", "--isocenter-mm", "0,0,0") == 1
    assert f"{beam.value} beam" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    for name in FORMATS:
        told = [*AGAIN[name], "--view", "AP"]
        assert run(tmp_path / "none", "--from", name, *told, "--out", tmp_path / "out") == 1
        assert str(tmp_path / "none") in capsys.readouterr().err


def test_help_is_light():
    code = (
        "import sys; from hierbmd.cli.main import main\n"
        "try: main(['geometry', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--from" in done.stdout
