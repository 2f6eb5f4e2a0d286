"""Faults that `hierbmd drr` may meet: one line, status 1, nothing written, and what was there before still there."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hierbmd.cli import drr
from hierbmd.cli.main import main
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.drr.options import Backend
from hierbmd.errors import (
    AffineConflict,
    BadAffine,
    HierbmdError,
    LabelsMismatch,
    MissingExtra,
    NonFiniteVoxels,
    NotHounsfield,
    NotOrthogonal,
    NotRigid,
    RaysMissVolume,
)
from hierbmd.geometry import Grid
from hierbmd.io.dicom_write import write_ct_dicom
from hierbmd.io.image import write_labels, write_volume

CAMERA = ["--sdd-mm", "1000", "--source-isocenter-mm", "800", "--size", "24x20", "--pixel-mm", "2,2"]
_QFORM_CODE, _SFORM_CODE, _SROW = 252, 254, 280
"""Where a NIfTI-1 header keeps them (nifti1.h)."""

Damage = Callable[[Volume, Path], Path]


@pytest.fixture
def before(tmp_path: Path, sound_ct: Volume) -> tuple[Path, dict[str, bytes]]:
    """A folder that holds an earlier projection, and its files' bytes."""
    write_volume(tmp_path / "sound.nii", sound_ct)
    assert main(["drr", str(tmp_path / "sound.nii"), "--out", str(tmp_path / "out"), *CAMERA]) == 0
    return tmp_path / "out", contents(tmp_path / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(
    arguments: list[object], kind: type[HierbmdError], said: str, before: tuple[Path, dict[str, bytes]], capsys
) -> None:
    """The command refuses with `kind` and a line that holds `said`, and leaves an old and a new folder alone."""
    old, files = before
    new = old.with_name("new")
    for out in (old, new):
        line = [str(argument) for argument in [*arguments, "--out", out]]
        with pytest.raises(HierbmdError) as refusal:
            drr.main(line)
        assert type(refusal.value) is kind
        capsys.readouterr()
        assert main(["drr", *line]) == 1
        error = capsys.readouterr().err
        assert error.startswith("hierbmd drr: ")
        assert error.count("\n") == 1
        assert said in error
    assert contents(old) == files
    assert not new.exists()


def tilted(volume: Volume, folder: Path) -> Path:
    return _on(volume, _sheared(), folder)


def tilted_series(volume: Volume, folder: Path) -> Path:
    write_ct_dicom(folder / "series", Volume(volume.values, Grid(volume.grid.shape, _sheared())))
    return folder / "series"


def _sheared() -> np.ndarray:
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    matrix[1, 2] = 2.0 * np.tan(np.radians(15))
    return matrix


def _on(volume: Volume, world_from_index: np.ndarray, folder: Path) -> Path:
    write_volume(folder / "ct.nii", Volume(volume.values, Grid(volume.grid.shape, world_from_index)))
    return folder / "ct.nii"


def values(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damaged(volume: Volume, folder: Path) -> Path:
        write_volume(folder / "ct.nii", Volume(change(volume.values).astype(np.float32), volume.grid))
        return folder / "ct.nii"

    return damaged


def one_voxel(value: float) -> Damage:
    def change(sound: np.ndarray) -> np.ndarray:
        wrong = sound.copy()
        wrong[3, 4, 5] = value
        return wrong

    return values(change)


def row_z(*numbers: float) -> Damage:
    """A NIfTI by its sform alone, whose third row is of these numbers."""

    def damaged(volume: Volume, folder: Path) -> Path:
        path = _on(volume, volume.grid.world_from_index, folder)
        content = bytearray(path.read_bytes())
        struct.pack_into("<h", content, _QFORM_CODE, 0)
        struct.pack_into("<4f", content, _SROW + 32, *numbers)
        path.write_bytes(content)
        return path

    return damaged


def two_forms(volume: Volume, folder: Path) -> Path:
    path = _on(volume, volume.grid.world_from_index, folder)
    content = bytearray(path.read_bytes())
    assert struct.unpack_from("<hh", content, _QFORM_CODE) == (1, 1)
    x_row = struct.unpack_from("<4f", content, _SROW)
    struct.pack_into("<4f", content, _SROW, -x_row[0], *x_row[1:])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        pytest.param(tilted, NotOrthogonal, "not orthogonal (15.0 deg)", id="7 shear"),
        pytest.param(tilted_series, NotOrthogonal, "not orthogonal (15.0 deg)", id="7 gantry tilt"),
        pytest.param(values(lambda hu: 0.02 * (1 + hu / 1000)), NotHounsfield, "values are not HU", id="9 attenuation"),
        pytest.param(values(np.zeros_like), NotHounsfield, "every voxel is 0", id="9 all zero"),
        pytest.param(values(lambda hu: np.clip(hu + 1024, 0, 4095)), NotHounsfield, "12 bit", id="9 unsigned 12 bit"),
        pytest.param(one_voxel(np.nan), NonFiniteVoxels, "1 voxels are NaN or infinite, the first at", id="10 NaN"),
        pytest.param(one_voxel(-np.inf), NonFiniteVoxels, "infinite, the first at (3, 4, 5)", id="10 infinite"),
        pytest.param(row_z(0, 0, 0, 0), BadAffine, "singular", id="11 singular"),
        pytest.param(row_z(0, 0, np.nan, 0), BadAffine, "the sform has values that are not finite", id="11 NaN"),
        pytest.param(row_z(0, 0, 1e-9, 0), BadAffine, "zero spacing", id="11 zero spacing"),
        pytest.param(two_forms, AffineConflict, "disagree", id="12 qform and sform"),
    ],
)
def test_a_damaged_ct(
    tmp_path: Path, sound_ct: Volume, before, capsys, damage: Damage, kind: type[HierbmdError], said: str
) -> None:
    path = damage(sound_ct, tmp_path)
    assert_refused([path, *CAMERA], kind, said, before, capsys)


def test_7_a_tilted_ct_is_resampled_on_request(tmp_path: Path, sound_ct: Volume) -> None:
    path, out = tilted(sound_ct, tmp_path), tmp_path / "out"
    assert main(["drr", str(path), "--out", str(out), *CAMERA, "--resample-tilt"]) == 0
    assert (out / "drr_0000.mha").exists()


def test_11_a_label_map_that_has_no_place(tmp_path: Path, sound_ct: Volume, before, capsys) -> None:
    labels = row_z(0, 0, 0, 0)(Volume(np.full_like(sound_ct.values, 75), sound_ct.grid), tmp_path)
    labels = labels.rename(tmp_path / "labels.nii")
    ct = tmp_path / "sound.nii"
    assert_refused([ct, "--labels", labels, *CAMERA], BadAffine, "labels.nii", before, capsys)


def test_a_label_map_beside_its_ct(tmp_path: Path, sound_ct: Volume, before, capsys) -> None:
    elsewhere = sound_ct.grid.world_from_index.copy()
    elsewhere[0, 3] = 500.0
    ids = np.full(sound_ct.grid.shape, 75, np.uint8)
    write_labels(tmp_path / "labels.nii", LabelMap(ids, Grid(sound_ct.grid.shape, elsewhere)))
    arguments = [tmp_path / "sound.nii", "--labels", tmp_path / "labels.nii", *CAMERA]
    assert_refused(arguments, LabelsMismatch, "does not overlap", before, capsys)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("beam", ["cone", "parallel", "slot"])
@pytest.mark.parametrize(
    ("pose", "said"),
    [
        ("0,0,0,0,0,-900", "the volume is behind the source"),
        ("0,0,0,900,0,0", "it lies beside or beyond the detector"),
        ("0,0,0,0,-900,0", "it lies beside or beyond the detector"),
        ("0,0,0,0,0,900", "it lies beside or beyond the detector"),
    ],
)
def test_19_rays_that_miss(before, capsys, backend: str, beam: str, pose: str, said: str) -> None:
    ct = before[0].with_name("sound.nii")
    arguments = [ct, *CAMERA, "--beam", beam, "--backend", backend, "--pose", pose]
    assert_refused(arguments, RaysMissVolume, f"rays miss the volume ({said})", before, capsys)


@pytest.mark.parametrize("backend", [name for name in get_args(Backend) if name not in ("auto", "cpu", "reference")])
def test_19_rays_that_miss_by_other_backends(before, capsys, backend: str) -> None:
    ct = before[0].with_name("sound.nii")
    try:
        drr.main([str(ct), "--out", str(before[0].with_name("hit")), *CAMERA, "--backend", backend])
    except MissingExtra as error:
        pytest.skip(str(error))
    for pose in ("0,0,0,0,0,-900", "0,0,0,900,0,0"):
        arguments = [ct, *CAMERA, "--backend", backend, "--pose", pose]
        assert_refused(arguments, RaysMissVolume, "rays miss the volume", before, capsys)


@pytest.mark.parametrize("by", ["labels", "air"])
def test_19_an_image_of_nothing_that_rays_do_meet_is_no_miss(tmp_path: Path, sound_ct: Volume, by: str) -> None:
    # Rays through air alone see nothing, and that is what is there: black, and no refusal.
    content = np.full_like(sound_ct.values, -1000)
    content[0, 0, 0] = 30
    write_volume(tmp_path / "ct.nii", Volume(content, sound_ct.grid))
    arguments = ["drr", str(tmp_path / "ct.nii"), "--out", str(tmp_path / "out"), *CAMERA[:-4], "--pixel-mm", "2,2"]
    arguments += ["--size", "2x2"]
    if by == "labels":
        ids = np.zeros(sound_ct.grid.shape, np.uint8)
        ids[0, 0, 0] = 75
        write_labels(tmp_path / "labels.nii", LabelMap(ids, sound_ct.grid))
        arguments += ["--labels", str(tmp_path / "labels.nii")]
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda pose: np.diag([-1.0, 1, 1, 1]) @ pose, "determinant -1", id="reflects"),
        pytest.param(lambda pose: np.diag([1.1, 1.1, 1.1, 1]) @ pose, "determinant 1.331", id="scales"),
        pytest.param(lambda pose: pose + 0.1 * np.eye(4, k=1), "not rigid", id="shears"),
        pytest.param(lambda pose: pose + np.eye(4, k=-3), "not rigid", id="perspective"),
    ],
)
def test_20_a_pose_that_is_not_rigid(before, capsys, change: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    out = before[0]
    record = json.loads((out / "drr_0000.json").read_text())["geometry"]
    record["camera_from_world"] = change(np.array(record["camera_from_world"])).tolist()
    path = out.with_name("geometry.json")
    path.write_text(json.dumps(record))
    assert_refused([out.with_name("sound.nii"), "--geometry", path], NotRigid, said, before, capsys)
