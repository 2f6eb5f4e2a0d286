"""TotalSegmentator, when it is installed, in a process of its own; its label map is read like any other."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hierbmd.anatomy.segmenter_options import SegmenterOptions
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import MissingExtra, SegmenterFailed
from hierbmd.io.image import write_volume
from hierbmd.io.labels import read_labels

COMMAND = "TotalSegmentator"
STRUCTURES = (
    *("femur_left", "femur_right", "hip_left", "hip_right", "sacrum", "vertebrae_S1"),
    *("vertebrae_L5", "vertebrae_L4", "vertebrae_L3", "vertebrae_L2", "vertebrae_L1", "vertebrae_T12"),
)
"""What is asked of it: the bones that regions are measured in, and their neighbours."""

_BY_MODULE = "from totalsegmentator.bin.TotalSegmentator import main; main()"


def totalsegmentator_labels(volume: Volume, options: SegmenterOptions) -> LabelMap:
    """The bones of a CT in HU by TotalSegmentator v2's task "total", on the CT's grid.

    The command on PATH is run, else the package of this Python. It sees the image alone: a NIfTI file in a temporary
    folder. Errors: MissingExtra when it is not installed, SegmenterFailed when it ends with an error, takes longer than
    the limit or leaves no label map; the refusals of `read_labels`.
    """
    command = _command()
    with tempfile.TemporaryDirectory(prefix="hierbmd-") as folder:
        ct, labels = Path(folder) / "ct.nii.gz", Path(folder) / "labels.nii.gz"
        write_volume(ct, volume)
        arguments = ["-i", str(ct), "-o", str(labels), "--ml", "--task", "total", "--device", options.device]
        arguments += ["--fast"] if options.fast else []
        _run([*command, *arguments, "--roi_subset", *STRUCTURES], options.limit_s)
        if not labels.is_file():
            raise SegmenterFailed("TotalSegmentator left no label map", mend="run it by hand on this CT and see")
        return read_labels(labels, onto=volume.grid)


def _command() -> list[str]:
    found = shutil.which(COMMAND)
    if found is not None:
        return [found]
    if importlib.util.find_spec("totalsegmentator") is not None:
        return [sys.executable, "-c", _BY_MODULE]
    raise MissingExtra("TotalSegmentator is not installed", mend="pip install TotalSegmentator, or --labels FILE")


def _run(command: list[str], limit_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise SegmenterFailed(
            f"TotalSegmentator took longer than {limit_s:g} s", mend="--segmenter-fast, or --segmenter-limit-s"
        ) from None
    except OSError as error:
        raise SegmenterFailed(f"TotalSegmentator could not be started: {error.strerror}", where=command[0]) from None
    if done.returncode != 0:
        last = " ".join((done.stderr or done.stdout).split())[-200:]
        raise SegmenterFailed(
            f"TotalSegmentator ended with status {done.returncode}: {last}", mend="run it by hand on this CT and see"
        )
