"""What is installed and usable: versions, extras, threads, GPU, decoders, disk space."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

_DECODED = {
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
}
_GIB = 2**30


@dataclass(frozen=True)
class Package:
    """A package that the project asks for: the version found, None without, and its extra, "" for the core."""

    name: str
    version: str | None
    extra: str


@dataclass(frozen=True)
class Environment:
    """The machine and what is installed on it."""

    hierbmd: str
    python: str
    system: str
    cpu_threads: int
    memory_gib: float | None
    disk_free_gib: float
    gpus: tuple[str, ...]
    torch: str
    numba: str
    decoders: dict[str, bool]
    packages: tuple[Package, ...]
    problems: tuple[str, ...]


def inspect_environment(folder: str | Path = ".") -> Environment:
    """Look at this machine; `folder` is where free disk space is asked for. `problems` has one line each."""
    torch, gpus, torch_problem = _torch()
    numba, numba_problem = _numba()
    packages = _packages()
    lacking = [p.name for p in packages if p.version is None and not p.extra]
    problems = [*torch_problem, *numba_problem, *_torchvision()]
    problems += [f"{name} is not installed: pip install hierbmd again" for name in lacking]
    return Environment(
        hierbmd=_version("hierbmd") or "not installed",
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cpu_threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        disk_free_gib=round(shutil.disk_usage(folder).free / _GIB, 1),
        gpus=gpus,
        torch=torch,
        numba=numba,
        decoders=_decoders(),
        packages=packages,
        problems=tuple(problems),
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> tuple[Package, ...]:
    """Core dependencies and extras with what is installed of them, from the package's own metadata."""
    found = []
    for line in importlib.metadata.requires("hierbmd") or []:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name:
            found.append(Package(name.group(), _version(name.group()), extra.group(1) if extra else ""))
    return tuple(found)


def _torch() -> tuple[str, tuple[str, ...], list[str]]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return "not usable", (), [f"torch cannot be imported: {_first_line(error)}"]
    gpus: tuple[str, ...] = ()
    if torch.cuda.is_available():
        gpus = tuple(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
    return f"{torch.__version__}, {torch.get_num_threads()} threads", gpus, []


def _torchvision() -> list[str]:
    """An installed torchvision that does not fit its torch makes lightning and others fail when they are imported."""
    version = _version("torchvision")
    if version is None:
        return []
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return [f"torchvision {version} is broken ({_first_line(error)}): pip uninstall torchvision"]
    return []


def _numba() -> tuple[str, list[str]]:
    try:
        import numba
    except (ImportError, OSError) as error:
        return "not usable", [f"numba cannot be imported: {_first_line(error)}"]
    return f"{numba.__version__}, {numba.config.NUMBA_NUM_THREADS} threads", []  # type: ignore[attr-defined]


def _decoders() -> dict[str, bool]:
    """Which compressed transfer syntaxes can be read; GDCM does not count, for it is never used."""
    from pydicom.pixels import get_decoder

    return {
        name: any(plugin != "gdcm" for plugin in get_decoder(uid).available_plugins) for name, uid in _DECODED.items()
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
