"""The projectors that run in processes of their own: RTK from an environment made for it, and `plastimatch drr`."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import venv
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from systems import System
from tasks import Task

from hierbmd.io.exchange_plastimatch import plastimatch_from_geometry
from hierbmd.io.image import write_volume
from hierbmd.rigid import invert_rigid, transform_points

RTK = "itk-rtk==2.7.0.post1"
_WORKER = Path(__file__).with_name("rtk_worker.py")


class NotHere(Exception):
    """A projector that this machine does not have; the text says why."""


def rtk_python(folder: Path) -> Path:
    """The interpreter of RTK's own environment, made in `folder` when it is not there; NotHere without a registry.

    itk is 600 MB and of another version than itk-elastix's, so it stays out of the project's environment.
    """
    python = folder / "venv-rtk" / "bin" / "python"
    done = folder / "venv-rtk" / f".{RTK}"
    if done.is_file():
        return python
    venv.create(folder / "venv-rtk", with_pip=True, clear=True)
    asked = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RTK]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise NotHere(f"{RTK} cannot be installed: {(found.stderr.strip() or 'pip failed').splitlines()[-1]}")
    done.touch()
    return python


class RtkProcess:
    """RTK's process, ended with this object."""

    def __init__(self, python: Path, threads: int) -> None:
        environment = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [str(python), str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._end = weakref.finalize(self, _end, self._process)

    def ask(self, do: str, **job: Any) -> dict[str, Any]:
        """The answer to a job; NotHere when the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **job}) + "\n")
            self._process.stdin.flush()
            return dict(json.loads(self._process.stdout.readline()))
        except (BrokenPipeError, ValueError) as error:
            raise NotHere(f"RTK's process ended while it did {do!r} (its reason stands above)") from error


def _end(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait(timeout=60)


def rtk(task: Task, python: Path) -> System:
    """RTK's JosephForwardProjectionImageFilter, timed by its own process around Update()."""
    process = RtkProcess(python, task.threads)
    grid, camera = task.scene.grid, task.camera
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.npy"
        np.save(path, np.ascontiguousarray(task.scene.values.transpose(2, 1, 0)))
        origin, spacing = grid.world_from_index[:3, 3].tolist(), np.diag(grid.world_from_index)[:3].tolist()
        told = process.ask("load", values=str(path), origin=origin, spacing=spacing, threads=task.threads)
    world_from_camera = invert_rigid(task.pose)
    process.ask(
        "aim",
        source=world_from_camera[:3, 3].tolist(),
        detector=transform_points(world_from_camera, np.array([0, 0, camera.sdd_mm])).tolist(),
        row=world_from_camera[:3, 0].tolist(),
        column=world_from_camera[:3, 1].tolist(),
        size_px=camera.size_px,
        pixel_mm=camera.pixel_mm,
        principal_px=camera.centre_px,
    )

    def image() -> np.ndarray:
        with tempfile.TemporaryDirectory() as out:
            path = Path(out) / "image.npy"
            process.ask("project", out=str(path))
            return np.load(path)

    def forward() -> float:
        return float(process.ask("project")["seconds"])

    def peak_mb() -> float:
        return float(process.ask("memory")["peak_mb"])

    return System("RTK Joseph (C++)", str(told["version"]), image, forward, peak_mb=peak_mb)


def plastimatch(task: Task, algorithm: str) -> System:
    """`plastimatch drr` on a file of our values, `-P none` so that they stay as they are, times by its own clock.

    "uniform" samples the volume at three quarters of a voxel, "exact" is Siddon's. Its integrals are in cm. NotHere
    where the program is not installed.
    """
    program = shutil.which("plastimatch")
    if program is None:
        raise NotHere("plastimatch is not installed (Debian and Ubuntu: apt install plastimatch)")
    folder = tempfile.TemporaryDirectory()
    values = Path(folder.name) / "values.mha"
    write_volume(values, _volume(task))
    words = [program, "drr", "-t", "pfm", "-i", algorithm, "-P", "none"]
    words += plastimatch_from_geometry(task.camera, task.pose).arguments()
    words += ["-I", str(values), "-O", str(Path(folder.name) / "out_")]
    environment = os.environ | {"OMP_NUM_THREADS": str(task.threads)}
    width, height = task.camera.size_px

    def forward() -> float:
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        times = {name: float(s) for name, s in re.findall(r"(I/O|Total) time: ([\d.e+-]+) sec", done.stdout)}
        return times["Total"] - times["I/O"]

    def image() -> np.ndarray:
        forward()
        content = (Path(folder.name) / "out_0000.pfm").read_bytes()
        return 10 * np.frombuffer(content[-4 * width * height :], "<f4").reshape(height, width)

    def peak_mb() -> float:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024

    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return System(f"plastimatch drr ({algorithm}, C++)", said.split()[-1], image, forward, peak_mb=peak_mb)


def _volume(task: Task) -> Any:
    from hierbmd.data.volume import Volume

    return Volume(task.scene.values, task.scene.grid)
