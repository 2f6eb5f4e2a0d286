"""The scans of the calibration benchmark: bodies with inserts, how they are scanned, and what is done to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.phantoms import Phantom, phantom_names, phantom_of_name
from hierbmd.data.volume import Volume
from hierbmd.geometry import Grid
from hierbmd.io.phantom_file import write_phantom
from hierbmd.physics.attenuation import phantom_hu_per_mg_cm3
from hierbmd.simulation.options import ScanOptions
from hierbmd.simulation.scanner import Scan, scan

INSERT_MM = 24.0
_STEP_MM, _LENGTH_MM = 3.0, 96.0

Provoked = tuple[Volume, Phantom]


@dataclass(frozen=True)
class Body:
    """What is scanned, as `simulation.scanner.Scanned`, and where its inserts' axes are (x, y), mm: near, middle."""

    body: Volume
    density: Volume
    inserts_mm: tuple[tuple[float, float], tuple[float, float]]
    insert_mg_cm3: float


def body_of(rng: np.random.Generator) -> Body:
    """An ellipse of soft tissue in a rim of fat with two shafts of bone and two inserts of one density."""
    a, b = rng.uniform(130.0, 175.0), rng.uniform(88.0, 120.0)
    x, y = (np.arange(-half - 12.0, half + 12.1, _STEP_MM) for half in (a, b))
    x, y = np.meshgrid(x, y, indexing="ij")
    radius = np.hypot(x / a, y / b)
    soft = np.where(radius < 0.85, 50.0, np.where(radius < 1.0, -100.0, -1000.0))
    mineral = np.zeros_like(soft)
    for middle in (-0.55 * a, 0.55 * a):
        mineral[np.hypot(x - middle, y) < 14.0] = 900.0
        mineral[np.hypot(x - middle, y) < 8.0] = 50.0
    value, places = float(rng.uniform(50.0, 400.0)), ((0.0, 0.8 * b), (0.0, -0.05 * b))
    for u, v in places:
        inside = np.hypot(x - u, y - v) < 0.5 * INSERT_MM
        mineral[inside], soft[inside] = value, 0.0
    count = round(_LENGTH_MM / 8.0) + 1
    matrix = np.diag([_STEP_MM, _STEP_MM, 8.0, 1.0])
    matrix[:2, 3] = [x[0, 0], y[0, 0]]
    grid = Grid((*soft.shape, count), matrix)
    hu = soft + phantom_hu_per_mg_cm3() * mineral
    whole = [np.repeat(image[:, :, None], count, axis=2).astype(np.float32) for image in (hu, mineral)]
    return Body(Volume(whole[0], grid), Volume(whole[1], grid, "mg/cm3 HA"), places, value)


def options_of(phantom: str, rng: np.random.Generator, *, serial: int) -> ScanOptions:
    """How one scan is taken: all of it drawn."""
    interval_mm = float(rng.choice([4.0, 6.0, 8.0]))
    return ScanOptions(
        phantom=phantom,
        serial=serial,
        phantom_tilt_deg=3.0,
        phantom_shift_mm=10.0,
        phantom_gap_mm=float(rng.uniform(3.0, 20.0)),
        table=bool(rng.random() < 0.8),
        kvp=float(rng.choice([80.0, 100.0, 120.0, 140.0])),
        pixel_mm=float(rng.uniform(0.9, 1.4)),
        fov_mm=float(rng.uniform(330.0, 480.0)),
        fov_shift_mm=(float(rng.uniform(-60.0, 60.0)), float(rng.uniform(10.0, 60.0))),
        padding_hu=[-1024, -2048, None][int(rng.integers(3))],
        interval_mm=interval_mm,
        thickness_mm=interval_mm,
        profile="bell" if rng.random() < 0.5 else "rectangle",
        kernel=("soft", "standard", "sharp")[int(rng.integers(3))],
        noise_hu=float(rng.uniform(5.0, 30.0)),
        cupping_hu=float(rng.uniform(0.0, 8.0)),
        drift_percent=float(rng.uniform(0.0, 0.8)),
        offset_sd_hu=3.0,
    )


def _line_offset(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    off = float(rng.uniform(45.0, 100.0)) * float(rng.choice([-1.0, 1.0]))
    rods = [replace(rod, density_mg_cm3=rod.density_mg_cm3 + off) for rod in phantom.rods]
    return replace(phantom, rods=tuple(rods))


def _one_offset(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    rods = list(phantom.rods)
    at = int(rng.integers(len(rods)))
    off = float(rng.uniform(15.0, 40.0)) + 0.05 * abs(rods[at].density_mg_cm3)
    sign = float(rng.choice([-1.0, 1.0]))
    rods[at] = replace(rods[at], density_mg_cm3=rods[at].density_mg_cm3 + sign * off)
    return replace(phantom, rods=tuple(rods))


def _swapped(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    rods = list(phantom.rods)
    order = np.argsort([rod.density_mg_cm3 for rod in rods])
    first = int(rng.integers(len(rods) - 1))
    i, j = (int(n) for n in order[first : first + 2])
    given = [(rods[n].density_mg_cm3, rods[n].water_mg_cm3) for n in (j, i)]
    for n, (density, water) in zip((i, j), given, strict=True):
        rods[n] = replace(rods[n], density_mg_cm3=density, water_mg_cm3=water)
    return replace(phantom, rods=tuple(rods))


def _another(phantom: Phantom, rng: np.random.Generator) -> Phantom:
    return phantom_of_name(str(rng.choice([name for name in phantom_names() if name != phantom.name])))


def streaked(volume: Volume, about_mm: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    """Dark and bright rays out of a point (x, y, LPS mm) beside the phantom, in some of the slices, as metal makes."""
    matrix = volume.grid.world_from_index
    x, y = (matrix[n, 3] + matrix[n, n] * np.arange(volume.grid.shape[n]) for n in range(2))
    dx, dy = np.meshgrid(x - about_mm[0], y - about_mm[1], indexing="ij")
    angle, away = np.arctan2(dy, dx), np.hypot(dx, dy)
    rays = sum(np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in rng.integers(2, 24, size=6))
    strength = float(rng.uniform(60.0, 500.0))
    streaks = strength * rays / np.sqrt(3.0) * 40.0 / (40.0 + away)
    values = volume.values.copy()
    first = int(rng.integers(0, values.shape[2] // 2))
    values[:, :, first:] += streaks[:, :, None].astype(np.float32)
    return Volume(np.clip(values, -1024.0, 3071.0), volume.grid)


def _streaks(found: Scan, rng: np.random.Generator) -> Provoked:
    assert found.phantom is not None
    beside = found.phantom.world_from_phantom[:3, 3] + [rng.uniform(-120.0, 120.0), rng.uniform(-60.0, 0.0), 0.0]
    return streaked(found.volume, beside, rng), found.phantom.phantom


def _table_of(change: Callable[[Phantom, np.random.Generator], Phantom]) -> Callable[..., Provoked]:
    def provoke(found: Scan, rng: np.random.Generator) -> Provoked:
        assert found.phantom is not None
        return found.volume, change(found.phantom.phantom, rng)

    return provoke


PROVOCATIONS: dict[str, Callable[[Scan, np.random.Generator], Provoked]] = {
    "swapped rods": _table_of(_swapped),
    "one density off": _table_of(_one_offset),
    "all densities off": _table_of(_line_offset),
    "another phantom named": _table_of(_another),
    "metal streaks": _streaks,
    "nominal rods for a serial": _table_of(lambda phantom, rng: phantom_of_name(phantom.name)),
}
"""What is done to a scan or to the rod table it is calibrated by; "missing rod" is done to the phantom itself."""

KINDS = (*PROVOCATIONS, "missing rod")
TOLERATED = ("nominal rods for a serial",)
"""No fault but a choice of the user's that costs accuracy: its fits are shown and not counted as wrong."""


def without_a_rod(
    phantom: str, body: Body, options: ScanOptions, rng: np.random.Generator
) -> tuple[Volume, Phantom, Scan]:
    """A scan on a phantom that lacks a rod with contrast, and the whole table that it is calibrated by."""
    whole = phantom_of_name(phantom)
    with_contrast = [n for n, rod in enumerate(whole.rods) if abs(rod.density_mg_cm3) >= 50.0]
    gone = int(rng.choice(with_contrast))
    lacking = replace(whole, rods=tuple(rod for n, rod in enumerate(whole.rods) if n != gone))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lacking.json"
        write_phantom(path, lacking)
        found = scan(body, replace(options, phantom=str(path)), 1)
    assert found.phantom is not None
    rods = list(found.phantom.phantom.rods)
    rods.insert(gone, whole.rods[gone])
    return found.volume, replace(whole, rods=tuple(rods)), found
