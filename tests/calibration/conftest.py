"""Small simulated scans with a phantom: the truth is the simulator's, and nothing of it goes to the finder."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.simulation.options import ScanOptions, preset_scan
from hierbmd.simulation.scanner import Scan, scan


@cache
def torso():
    """An elliptic body of water with fat around it and two shafts of bone, 300 x 200 mm, 96 mm long."""
    x, y = np.meshgrid(np.arange(-162, 163, 3.0), np.arange(-111, 112, 3.0), indexing="ij")
    radius = np.hypot(x / 150.0, y / 100.0)
    body = np.where(radius < 0.85, 40.0, np.where(radius < 1.0, -100.0, -1000.0))
    density = np.zeros_like(body)
    for middle in (-80.0, 80.0):
        density[np.hypot(x - middle, y) < 14.0] = 900.0
        density[np.hypot(x - middle, y) < 8.0] = 50.0
    grid = Grid((*body.shape, 13), np.diag([3.0, 3.0, 8.0, 1.0]))
    whole = [np.repeat(a[:, :, None], 13, axis=2).astype(np.float32) for a in (body + 1.307 * density, density)]
    return SimpleNamespace(body=Volume(whole[0], grid), density=Volume(whole[1], grid, "mg/cm3 HA"))


def phantom_scan(phantom: str, seed: int = 1, **changes) -> Scan:
    """A scan of the torso on a phantom of serial 5, tilted, noisy, with table and padding; `changes` on top."""
    options = replace(
        preset_scan(phantom, serial=5),
        **{
            "pixel_mm": 1.3,
            "interval_mm": 8.0,
            "thickness_mm": 8.0,
            "phantom_tilt_deg": 2.0,
            "fov_mm": 420.0,
            **changes,
        },
    )
    return scan(torso(), options, seed)


@pytest.fixture(scope="session")
def options_off() -> ScanOptions:
    return ScanOptions(pixel_mm=1.3, interval_mm=8.0, thickness_mm=8.0)


@pytest.fixture(scope="session")
def scan_of():
    """`scan_of(phantom, seed, **changes)`, each made once."""
    return cache(phantom_scan)
