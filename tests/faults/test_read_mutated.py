"""Mutated files: whatever bytes a file holds, a reader raises nothing but the project's own errors."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import Volume
from hierbmd.errors import HierbmdError
from hierbmd.geometry import Grid, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.dicom_write import DicomOptions, write_ct_dicom, write_radiograph_dicom
from hierbmd.io.image import write_volume
from hierbmd.io.inspect import inspect_files
from hierbmd.io.radiograph import RadiographOptions, read_radiograph

LIMIT_GIB = 0.25
FILM = RadiographOptions(max_gib=LIMIT_GIB)
PICTURE = RadiographOptions(polarity="bright-bone", max_gib=LIMIT_GIB)


@pytest.fixture
def valid_files(tmp_path: Path) -> list[Path]:
    """One small valid file of every format and packing."""
    import SimpleITK as sitk  # noqa: N813

    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(-100, 300, (9, 8, 7)).astype(np.float32), Grid((9, 8, 7), np.eye(4)))
    for name in ("a.nii", "a.nii.gz", "a.mha"):
        write_volume(tmp_path / name, volume)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.mha")), str(tmp_path / "a.nrrd"))
    image = Radiograph(rng.random((64, 48)).astype(np.float32), (0.2, 0.3), 1000.0, 900.0, View.AP, Side.BOTH)
    for packing in ("none", "rle", "jpeg2000"):
        write_radiograph_dicom(tmp_path / f"{packing}.dcm", image, DicomOptions(compression=packing))
    dataset = pydicom.dcmread(tmp_path / "none.dcm")
    dataset.compress(pydicom.uid.JPEGLSLossless)
    dataset.save_as(tmp_path / "jls.dcm")
    dataset = pydicom.dcmread(tmp_path / "none.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    for name, depth in (("a.png", np.uint8), ("b.tif", np.uint16), ("a.jpg", np.uint8)):
        Image.fromarray((image.pixels * np.iinfo(depth).max).astype(depth)).save(tmp_path / name)
    return sorted(path for path in tmp_path.iterdir() if path.is_file())


def reader_of(path: Path) -> Callable[[Path], object]:
    if path.suffix == ".dcm":
        return lambda p: read_radiograph(p, FILM)
    if path.suffix in (".png", ".tif", ".jpg"):
        return lambda p: read_radiograph(p, PICTURE)
    return lambda p: read_volume(p, max_gib=LIMIT_GIB)


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Truncated files, and files with bytes overwritten, more of them in the header, where they hurt."""
    chance = random.Random(seed)
    for _ in range(count):
        mutated = bytearray(content)
        if chance.random() < 0.25:
            yield bytes(mutated[: chance.randrange(len(mutated))])
            continue
        reach = len(mutated) if chance.random() < 0.4 else min(len(mutated), 600)
        for _ in range(chance.choice([1, 1, 2, 4, 16])):
            mutated[chance.randrange(reach)] = chance.choice([0, 127, 128, 255, chance.randrange(256)])
        yield bytes(mutated)


def is_refused(read: Callable[[Path], object], path: Path) -> bool:
    """Whether the reader refused the file, in one line; any other exception than the project's fails the test."""
    try:
        read(path)
    except HierbmdError as refusal:
        line = str(refusal)
    else:
        return False
    assert "\n" not in line
    return True


def read_all_mutations(files: list[Path], each: int) -> int:
    refused = 0
    for n, source in enumerate(files):
        target = source.with_name("mutated" + "".join(source.suffixes))
        for content in mutations(source.read_bytes(), each, seed=n):
            target.write_bytes(content)
            refused += is_refused(reader_of(source), target)
            assert all(not r.refusal or r.error for r in inspect_files([target], max_gib=LIMIT_GIB))
    return refused


def test_a_hundred_mutated_files(valid_files: list[Path]) -> None:
    assert read_all_mutations(valid_files, each=9) > 30


def test_a_series_with_a_mutated_slice(tmp_path: Path) -> None:
    volume = Volume(
        np.random.default_rng(1).normal(-100, 300, (8, 8, 3)).astype(np.float32), Grid((8, 8, 3), np.eye(4))
    )
    write_ct_dicom(tmp_path / "series", volume)
    target = tmp_path / "series" / "slice_0001.dcm"
    found = [
        is_refused(lambda p: read_volume(p.parent, max_gib=LIMIT_GIB), target)
        for content in mutations(target.read_bytes(), 40, seed=3)
        if target.write_bytes(content) is not None
    ]
    assert sum(found) > 10


@pytest.mark.slow
def test_two_thousand_mutated_files_within_a_gibibyte(valid_files: list[Path]) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_all_mutations(valid_files, each=170) > 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 2**20
