"""`hierbmd drr` from the outside: what it leaves, and what it refuses."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hierbmd.cli.main import main
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import make_scene
from hierbmd.geometry import Camera, Grid, Motion, Placement, ProjectionGeometry, View
from hierbmd.io.geometry_file import read_geometry, write_geometry
from hierbmd.io.image import read_mha_image, write_labels, write_volume

CAMERA = ["--sdd-mm", "1000", "--source-isocenter-mm", "800", "--size", "24x20", "--pixel-mm", "4,5"]
LINE = ["--quantity", "density", "--slope", "0.8", "--intercept", "0"]


@pytest.fixture
def patient(tmp_path):
    """A small CT (HU), air around a box of soft tissue with two bones, and its label map: paths and volume."""
    values = np.full((16, 14, 12), -1000.0, dtype=np.float32)
    values[3:13, 3:11, 1:11] = 40.0
    ids = np.zeros(values.shape, np.uint8)
    # The first index axis runs to the patient's right.
    ids[4:7, 5:9, 2:10], ids[9:12, 5:9, 2:10] = 75, 76
    values[ids > 0] = 500.0
    grid = Grid(values.shape, np.array([[-4.0, 0, 0, 100], [0, 4, 0, -30], [0, 0, 5, 900], [0, 0, 0, 1]]))
    volume = Volume(values, grid)
    ct, labels = tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"
    write_volume(ct, volume)
    write_labels(labels, LabelMap(ids, grid, {"femur_left": 75, "femur_right": 76}))
    return str(ct), str(labels), volume


def run(*arguments):
    return main(["drr", *map(str, arguments)])


def test_attenuation_image_is_the_projectors(patient, tmp_path):
    ct, _, volume = patient
    out = tmp_path / "out"
    assert run(ct, "--out", out, *CAMERA, "--view", "PA", "--pose", "-3,4,5,6,-7,8") == 0
    image = read_mha_image(out / "drr_0000.mha")
    pose = Placement(View.PA, volume.grid.centre_world_mm, 800.0).camera_from_world(Motion(-3, 4, 5, 6, -7, 8))
    expected = make_projector(make_scene(volume, quantity="attenuation")).image(Camera(1000, (24, 20), (4, 5)), pose)
    np.testing.assert_allclose(image.pixels, expected[0], atol=1e-5)
    assert image.pixels.dtype == np.float32
    assert image.pixel_mm == (4.0, 5.0)
    assert image.metadata["unit"] == "1"
    record = json.loads((out / "drr_0000.json").read_text())
    assert record["quantity"] == "attenuation"
    assert record["backend"] == "cpu"
    assert record["seconds"] > 0
    assert "Research use only" in record["research_use_only"]
    np.testing.assert_allclose(read_geometry(out / "drr_0000.json").camera_from_world, pose, atol=1e-9)


def test_picture_is_bone_bright(patient, tmp_path):
    ct, _, _ = patient
    run(ct, "--out", tmp_path / "out", *CAMERA)
    picture = np.asarray(Image.open(tmp_path / "out" / "drr_0000.png"))
    image = read_mha_image(tmp_path / "out" / "drr_0000.mha").pixels
    assert picture.shape == (20, 24)
    assert picture[image > 0.95 * image.max()].min() > 200
    assert picture[image == 0].max() == 0


def test_density_by_structure_weighs_the_bone_and_says_its_unit(patient, tmp_path):
    ct, labels, volume = patient
    out = tmp_path / "out"
    structures = "femur_right,femur_left"
    assert run(ct, "--out", out, *CAMERA, *LINE, "--labels", labels, "--structures", structures) == 0
    right, left = (read_mha_image(out / f"drr_0000_{name}.mha") for name in structures.split(","))
    assert right.metadata["unit"] == "g/cm2"
    assert right.metadata["material"] == "HA"
    # 400 mg/cm3 through 16 mm of bone.
    assert right.pixels.max() == pytest.approx(0.64, rel=0.02)
    # The patient's right is on the image's left in AP.
    assert right.pixels[:, 12:].max() == 0
    assert left.pixels[:, :12].max() == 0
    # Mass is kept: areal density over the detector, demagnified, is the bone's mass.
    area_cm2 = 0.4 * 0.5 * 0.8**2
    mass_g = 3 * 4 * 8 * volume.grid.voxel_mm3 * 400e-6
    assert right.pixels.sum() * area_cm2 == pytest.approx(mass_g, rel=0.05)
    assert not (out / "drr_0000.mha").exists()


def test_labels_alone_project_all_that_is_present_and_thickness_is_in_mm(patient, tmp_path):
    ct, labels, _ = patient
    assert run(ct, "--out", tmp_path / "out", *CAMERA, "--quantity", "thickness", "--labels", labels) == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.mha"))
    assert names == ["drr_0000_femur_left.mha", "drr_0000_femur_right.mha"]
    image = read_mha_image(tmp_path / "out" / names[0])
    assert image.metadata["unit"] == "mm"
    assert image.pixels.max() == pytest.approx(16.0, rel=0.02)


def test_geometry_file_is_camera_and_pose_and_poses_move_it(patient, tmp_path):
    ct, _, volume = patient
    pose = Placement(View.LAT, volume.grid.centre_world_mm, 700.0).camera_from_world()
    write_geometry(tmp_path / "g.json", ProjectionGeometry(Camera(1000, (10, 12), (8, 8)), pose, View.LAT))
    (tmp_path / "poses.csv").write_text("rx,ry,rz,tx,ty,tz\n0,0,0,0,0,0\n\n1,2,3,4,5,6\n")
    out = tmp_path / "out"
    assert run(ct, "--out", out, "--geometry", tmp_path / "g.json", "--poses", tmp_path / "poses.csv") == 0
    np.testing.assert_allclose(read_geometry(out / "drr_0000.json").camera_from_world, pose, atol=1e-9)
    moved = Placement(View.LAT, volume.grid.centre_world_mm, 700.0).camera_from_world(Motion(1, 2, 3, 4, 5, 6))
    np.testing.assert_allclose(read_geometry(out / "drr_0001.json").camera_from_world, moved, atol=1e-9)
    assert not (out / "drr_0002.json").exists()


def test_second_run_resumes_and_another_scene_does_not(patient, tmp_path, capsys):
    ct = patient[0]
    (tmp_path / "poses.csv").write_text("0,0,0,0,0,0\n1,0,0,0,0,0\n2,0,0,0,0,0\n")
    arguments = ["--out", tmp_path / "out", *CAMERA, "--poses", tmp_path / "poses.csv"]
    run(ct, *arguments)
    (tmp_path / "out" / "drr_0001.mha").unlink()
    before = (tmp_path / "out" / "drr_0000.mha").stat().st_mtime_ns
    capsys.readouterr()
    run(ct, *arguments)
    assert "1 projected" in capsys.readouterr().err
    assert (tmp_path / "out" / "drr_0001.mha").exists()
    assert (tmp_path / "out" / "drr_0000.mha").stat().st_mtime_ns == before
    run(ct, *arguments, *LINE)
    assert "3 projected" in capsys.readouterr().err
    assert read_mha_image(tmp_path / "out" / "drr_0000.mha").metadata["unit"] == "g/cm2"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sdd-mm", "1000"], "geometry missing (give --geometry, or --source-isocenter-mm --size --pixel-mm)"),
        ([*CAMERA, "--quantity", "density"], "uncalibrated: density needs a calibration"),
        ([*CAMERA, "--quantity", "density", "--slope", "0.8"], "uncalibrated: density needs a calibration"),
        ([*CAMERA, "--quantity", "density", "--slope", "0.0008", "--intercept", "0"], "multiply by 1000"),
        ([*CAMERA, "--slope", "0.8", "--intercept", "0"], "without --quantity density"),
        ([*CAMERA, "--structures", "femur_left"], "--structures without --labels"),
        ([*CAMERA, "--quantity", "thickness"], "thickness is that of a structure"),
        ([*CAMERA, "--geometry", "g.json"], "--geometry beside --sdd-mm"),
        ([*CAMERA, "--pose", "0,0,0,0,0,0", "--poses", "p.csv"], "--pose and --poses"),
        ([*CAMERA, "--pose", "0,0,0,0,0,5000"], "rays miss the volume"),
        ([*CAMERA, "--pose", "0,0,0,0,0,-5000"], "behind the source"),
        ([*CAMERA[2:], "--sdd-mm", "1.0"], "looks like metres"),
        ([*CAMERA[:-2], "--pixel-mm", "1,2,3"], "one number or du,dv"),
        ([*CAMERA, "--labels", "LABELS", "--structures", "sacrum"], "no structure sacrum"),
    ],
)
def test_refused_in_one_line_with_status_1(patient, tmp_path, capsys, arguments, text):
    ct, labels, _ = patient
    arguments = [labels if argument == "LABELS" else argument for argument in arguments]
    assert run(ct, "--out", tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("0,0,0,0,0,0\n1,2,3\n", "line 2"),
        ("0,0,0,0,0,0\n\n1,2,x,4,5,6\n", "line 3"),
        ("rx,ry,rz,tx,ty\n0,0,0,0,0\n", "line 1"),
        ("0,0,nan,0,0,0\n", "line 1"),
        ("0,0,0,0,0,1e7\n", "line 1"),
        ("\n", "no pose in the file"),
    ],
)
def test_poses_file_that_is_wrong_names_the_line(patient, tmp_path, capsys, content, text):
    (tmp_path / "poses.csv").write_text(content)
    assert run(patient[0], "--out", tmp_path / "out", *CAMERA, "--poses", tmp_path / "poses.csv") == 1
    assert text in capsys.readouterr().err


def test_poses_header_may_be_in_any_order_with_a_byte_order_mark(patient, tmp_path):
    (tmp_path / "poses.csv").write_text("\ufefftz,ty,tx,rz,ry,rx,name\n6,5,4,3,2,1,first\n", encoding="utf-8")
    run(patient[0], "--out", tmp_path / "out", *CAMERA, "--poses", tmp_path / "poses.csv")
    expected = Placement(View.AP, patient[2].grid.centre_world_mm, 800.0).camera_from_world(Motion(1, 2, 3, 4, 5, 6))
    pose = read_geometry(tmp_path / "out" / "drr_0000.json").camera_from_world
    np.testing.assert_allclose(pose, expected, atol=1e-9)


def test_help_is_quick_and_light():
    code = "import sys; from hierbmd.cli.main import main\ntry: main(['drr', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numba', 'SimpleITK', 'numpy'} & set(sys.modules), 'heavy import'"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--source-isocenter-mm" in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 0.5
