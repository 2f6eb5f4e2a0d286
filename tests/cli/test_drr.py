"""`hierbmd drr` from the outside: what it leaves, and what it refuses."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierbmd.cli.main import main
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.files import stem_of
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


def test_a_pose_whose_record_is_damaged_is_projected_again(patient, tmp_path, capsys):
    ct, out = patient[0], tmp_path / "out"
    run(ct, "--out", out, *CAMERA)
    record = json.loads((out / "drr_0000.json").read_text())
    for damaged in ('{"geometry": 1', "[]", json.dumps({"geometry": record["geometry"]})):
        (out / "drr_0000.json").write_text(damaged)
        run(ct, "--out", out, *CAMERA)
        assert "1 projected" in capsys.readouterr().err
        assert json.loads((out / "drr_0000.json").read_text())["files"] == {"all": "drr_0000.mha"}
    (out / "drr_0000.png").unlink()
    run(ct, "--out", out, *CAMERA)
    assert (out / "drr_0000.png").exists()


def test_a_pose_that_misses_is_named_and_the_others_are_written(patient, tmp_path, capsys):
    ct, out = patient[0], tmp_path / "out"
    poses = tmp_path / "poses.csv"
    poses.write_text("0,0,0,0,0,0\n0,0,0,0,0,-5000\n2,0,0,0,0,0\n0,0,0,9000,0,0\n")
    for resumed in (False, True):
        assert run(ct, "--out", out, *CAMERA, "--poses", poses) == 1
        error = capsys.readouterr().err
        refusal = error.splitlines()[-1]
        assert "rays miss the volume in 2 of 4 poses, counted from 0: 1, 3" in refusal
        assert "refusals.csv" in refusal
        assert ("2 already there" in error) == resumed
        assert sorted(path.name for path in out.glob("drr_*.json")) == ["drr_0000.json", "drr_0002.json"]
        assert not list(out.glob("drr_0001*"))
        lines = (out / "refusals.csv").read_text().splitlines()
        assert lines[0] == "pose,error_class,reason"
        assert lines[1].startswith("1,RaysMissVolume,rays miss the volume (the volume is behind the source)")
        assert lines[2].startswith("3,RaysMissVolume,")
    poses.write_text("0,0,0,0,0,0\n1,0,0,0,0,0\n2,0,0,0,0,0\n")
    assert run(ct, "--out", out, *CAMERA, "--poses", poses) == 0
    assert (out / "refusals.csv").read_text() == "pose,error_class,reason\n"


def test_all_poses_that_miss_leave_nothing(patient, tmp_path, capsys):
    (tmp_path / "poses.csv").write_text("0,0,0,0,0,-5000\n0,0,0,0,0,-6000\n")
    assert run(patient[0], "--out", tmp_path / "out", *CAMERA, "--poses", tmp_path / "poses.csv") == 1
    assert "behind the source) in all 2 poses" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_names_sort_beyond_ten_thousand_poses():
    folder = Path("out")
    assert [stem_of(folder, index, 10_000).name for index in (0, 9_999)] == ["drr_0000", "drr_9999"]
    names = [stem_of(folder, index, 10_001).name for index in (0, 999, 1_000, 9_999, 10_000)]
    assert names == ["drr_00000", "drr_00999", "drr_01000", "drr_09999", "drr_10000"]
    assert names == sorted(names)


def _widths_px(out):
    """Columns and rows that the body covers."""
    image = read_mha_image(out / "drr_0000.mha").pixels
    return int((image.max(axis=0) > 0).sum()), int((image.max(axis=1) > 0).sum())


@pytest.mark.parametrize("beam", ["cone", "parallel", "slot"])
def test_beams_magnify_where_they_fan(patient, tmp_path, beam):
    ct, _, volume = patient
    camera = ["--sdd-mm", "1000", "--source-isocenter-mm", "500", "--size", "160x160", "--pixel-mm", "1"]
    assert run(ct, "--out", tmp_path / "flags", *camera, "--beam", beam) == 0
    across, along = _widths_px(tmp_path / "flags")
    # 10 voxels of 4 mm across and 10 of 5 mm along, and the fall to zero on either side.
    assert across == pytest.approx(44 * (2 if beam != "parallel" else 1), rel=0.1)
    assert along == pytest.approx(55 * (2 if beam == "cone" else 1), rel=0.1)
    geometry = read_geometry(tmp_path / "flags" / "drr_0000.json")
    assert geometry.camera.beam == beam
    # The source, or its plane, is 500 mm before the isocentre whatever the beam.
    assert (geometry.camera_from_world @ [*volume.grid.centre_world_mm, 1])[2] == pytest.approx(500)
    assert run(ct, "--out", tmp_path / "file", "--geometry", tmp_path / "flags" / "drr_0000.json") == 0
    again = read_mha_image(tmp_path / "file" / "drr_0000.mha").pixels
    np.testing.assert_array_equal(again, read_mha_image(tmp_path / "flags" / "drr_0000.mha").pixels)


def test_a_disk_that_fills_up_ends_the_run_and_leaves_whole_files(patient, tmp_path, capsys, monkeypatch):
    ct, out, poses = patient[0], tmp_path / "out", tmp_path / "poses.csv"
    poses.write_text("".join(f"{angle},0,0,0,0,0\n" for angle in range(30)))
    save = Image.Image.save

    def full_after_the_fifth(image, path, **settings):
        if "drr_0005" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path, **settings)

    monkeypatch.setattr(Image.Image, "save", full_after_the_fifth)
    arguments = [ct, "--out", out, *CAMERA, "--poses", poses]
    assert run(*arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "cannot write (No space left on device): " in error
    assert "drr_0005.png" in error
    records = {path.stem for path in out.glob("*.json")}
    assert {f"drr_000{index}" for index in range(5)} <= records
    assert "drr_0005" not in records
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    for path in out.glob("*.mha"):
        assert read_mha_image(path).pixels.shape == (20, 24)
    monkeypatch.setattr(Image.Image, "save", save)
    assert run(*arguments) == 0
    assert f"{30 - len(records)} projected" in capsys.readouterr().err
    assert len(list(out.glob("*.json"))) == 30


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
        (["--view", "PA", "--beam", "slot", "--geometry", "g.json"], "--geometry beside --view, --beam"),
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
