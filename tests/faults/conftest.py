"""A sound DICOM series and a sound pair of hips to damage."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.io.dicom_write import write_ct_dicom


@pytest.fixture
def sound_ct() -> Volume:
    """A CT in HU of 12 x 10 x 8 voxels, 1 x 1 x 2 mm."""
    values = np.random.default_rng(5).normal(-100, 300, (12, 10, 8)).astype(np.float32)
    return Volume(values, Grid((12, 10, 8), np.diag([1.0, 1.0, 2.0, 1.0])))


@pytest.fixture
def series(tmp_path: Path, sound_ct: Volume) -> Path:
    """The folder of its slices, slice_0000.dcm to slice_0007.dcm."""
    write_ct_dicom(tmp_path / "series", sound_ct)
    return tmp_path / "series"


def _finished_files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".tmp." not in path.name
    }


@pytest.fixture(scope="session")
def finished_files() -> Callable[[Path], dict[str, str]]:
    """The SHA-256 of every file below a folder by its path there; what a stop left half written is left out."""
    return _finished_files


@pytest.fixture(scope="session")
def hips(coarse_patient: Any) -> tuple[Volume, LabelMap]:
    """CT and labels of a virtual patient cut to its femora: small."""
    inside = np.isin(coarse_patient.labels.ids, [TOTALSEGMENTATOR_V2[name] for name in ("femur_left", "femur_right")])
    low, high = (int(x) for x in (np.argwhere(inside)[:, 2].min(), np.argwhere(inside)[:, 2].max() + 1))
    matrix = coarse_patient.volume.grid.world_from_index.copy()
    matrix[:3, 3] = (matrix @ [0, 0, low, 1])[:3]
    values = np.ascontiguousarray(coarse_patient.volume.values[:, :, low:high])
    grid = Grid(values.shape, matrix)
    ids = np.ascontiguousarray(coarse_patient.labels.ids[:, :, low:high])
    return Volume(values, grid), LabelMap(ids, grid, coarse_patient.labels.scheme)


@pytest.fixture
def on_a_full_disk(tmp_path: Path) -> Callable[[Sequence[str], int], subprocess.CompletedProcess[str]]:
    """Run a command in a process whose files may not grow past so many bytes, as on a disk that fills up.

    Kernels that were just compiled cannot be kept either, which must not end the command.
    """

    def run(command: Sequence[str], most_bytes: int) -> subprocess.CompletedProcess[str]:
        code = "import sys; from hierbmd.cli.main import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.run(
            [sys.executable, "-c", code, *command],
            check=False,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")},
        )

    return run
