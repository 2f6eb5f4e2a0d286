"""How much the regions' areal BMD depends on where the fitted axes are: landmarks moved by 1 mm, one at a time.

    python benchmarks/regions.py [--patients 4] [--spacing-mm 2] [--ct CT --labels LABELS] [--pictures FOLDER]

Hips are those of simulated patients; the spine is that of a CT with labels of T12 to L5, at a nominal slope of 0.8.
A direction is turned so that it is 1 mm off 50 mm further on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.areal import Positioned, areal_bmd, project_density, project_region, standard_view
from hierbmd.anatomy.femur import FemurAxes, femur_axes
from hierbmd.anatomy.regions import hip_regions
from hierbmd.anatomy.shape import Mask, unit_vector
from hierbmd.anatomy.spine import Spine, SpineAxes, measure_spine, spine_regions
from hierbmd.calibration.line import given_calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.io.ct import read_volume
from hierbmd.io.image import windowed, write_png
from hierbmd.io.labels import read_labels
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

MOVED_MM, ARM_MM = 1.0, 50.0
BESIDE_PX = 20
COLOURS = ((255, 80, 80), (80, 220, 80), (90, 150, 255), (255, 220, 60))


def _turned(direction: NDArray[np.float64], towards: NDArray[np.float64]) -> NDArray[np.float64]:
    return unit_vector(direction + MOVED_MM / ARM_MM * towards)


def moved_femora(axes: FemurAxes) -> Iterator[tuple[str, FemurAxes]]:
    """The axes with one landmark moved by 1 mm either way."""
    frame = (axes.down, axes.beam, np.cross(axes.down, axes.beam))
    for sign in (-1.0, 1.0):
        for way in frame:
            centre = axes.head.centre_world_mm + sign * MOVED_MM * way
            yield "head centre", replace(axes, head=replace(axes.head, centre_world_mm=centre))
            base = axes.trochanter_base_world_mm + sign * MOVED_MM * way
            yield "trochanter base", replace(axes, trochanter_base_world_mm=base)
        junction = replace(axes.neck, junction_mm=axes.neck.junction_mm + sign * MOVED_MM)
        yield "head-neck junction", replace(axes, neck=junction)
        end_mm = axes.lesser_trochanter_end_mm + sign * MOVED_MM
        yield "lesser trochanter", replace(axes, lesser_trochanter_end_mm=end_mm)
        for way in (axes.beam, np.cross(axes.neck.direction, axes.beam)):
            direction = _turned(axes.neck.direction, sign * way)
            yield "neck axis", replace(axes, neck=replace(axes.neck, direction=direction))
        for way in (axes.beam, np.cross(axes.down, axes.beam)):
            direction = _turned(axes.shaft.direction, sign * way)
            yield "shaft axis", replace(axes, shaft=replace(axes.shaft, direction=direction))


def moved_spines(axes: SpineAxes) -> Iterator[tuple[str, SpineAxes]]:
    """The axes with every cut, or every side border, moved by 1 mm, or the view turned."""
    for sign in (-1.0, 1.0):
        for end in (0, 1):
            cuts = {}
            for name, both in axes.cuts.items():
                point, normal = both[end]
                there = (point + sign * MOVED_MM * normal, normal)
                cuts[name] = (there, both[1]) if end == 0 else (both[0], there)
            yield ("lower cut", "upper cut")[end], replace(axes, cuts=cuts)
        wider = {name: replace(one, half_rim_mm=one.half_rim_mm + sign) for name, one in axes.vertebrae.items()}
        yield "side borders", replace(axes, vertebrae=wider)
        yield "view about the column", replace(axes, left=_turned(axes.left, sign * axes.beam))
        up = _turned(axes.up, sign * axes.beam)
        yield "view about the lateral axis", replace(axes, up=up)


def _bmd(density: Volume, masks: Mapping[str, Mask], axes: Positioned) -> dict[str, float]:
    return {name: areal_bmd(density, mask, axes).bmd_g_cm2 for name, mask in masks.items()}


def _worst(
    worst: dict[tuple[str, str], float], what: str, here: Mapping[str, float], there: Mapping[str, float]
) -> None:
    for name, value in there.items():
        change = abs(100.0 * (value / here[name] - 1.0))
        worst[name, what] = max(worst.get((name, what), 0.0), change)


def _print(worst: Mapping[tuple[str, str], float]) -> None:
    regions = list(dict.fromkeys(name for name, _ in worst))
    print("| moved by 1 mm | " + " | ".join(regions) + " |")
    print("|---" * (len(regions) + 1) + "|")
    for what in dict.fromkeys(what for _, what in worst):
        print(f"| {what} | " + " | ".join(f"{worst[name, what]:.2f}" for name in regions) + " |")


def _picture(path: Path, density: Volume, bone: Mask, parts: list[Mask], axes: Positioned) -> None:
    camera, pose = standard_view(density.grid, bone, axes)
    areal = project_density(density, bone, camera, pose)
    grey = np.repeat(windowed(areal)[..., None], 3, axis=-1)
    painted, lowest = grey.copy(), 0
    for mask, colour in zip(parts, COLOURS, strict=False):
        seen = project_region(density, mask, camera, pose)[1] > 0
        painted[seen] = (0.65 * painted[seen] + 0.35 * np.array(colour)).astype(np.uint8)
        lowest = max(lowest, int(np.flatnonzero(seen.any(axis=1))[-1]))
    # From above the bone to a bit below the regions.
    highest = int(np.flatnonzero((areal > 0).any(axis=1))[0])
    both = np.hstack([grey, painted])[max(highest - BESIDE_PX, 0) : lowest + 2 * BESIDE_PX]
    write_png(path, np.repeat(np.repeat(both, 2, axis=0), 2, axis=1))


def hips(options: argparse.Namespace) -> None:
    """Simulated hips: print the table, and paint the first."""
    worst: dict[tuple[str, str], float] = {}
    for n in range(options.patients):
        patient = virtual_patient(n, PatientOptions(spacing_mm=options.spacing_mm))
        for side in ("left", "right"):
            mask, grid = patient.labels.mask(f"femur_{side}"), patient.labels.grid
            axes = femur_axes(mask, grid)
            regions = hip_regions(mask, grid, axes)
            here = _bmd(patient.density, regions, axes)
            for what, moved in moved_femora(axes):
                _worst(worst, what, here, _bmd(patient.density, hip_regions(mask, grid, moved), moved))
            if options.pictures and n == 1 and side == "right":
                parts = [regions[name] for name in ("femoral_neck", "trochanter", "intertrochanter")]
                _picture(options.pictures / "regions_hip.png", patient.density, mask, parts, axes)
    print(f"largest change of areal BMD, %, over {2 * options.patients} simulated hips at {options.spacing_mm} mm")
    _print(worst)


def spine(options: argparse.Namespace) -> None:
    """The spine of a CT: print its values and the table, and paint it."""
    volume = read_volume(options.ct)
    labels = read_labels(options.labels, onto=volume.grid)
    found: Spine = measure_spine(volume, labels, given_calibration(0.8, 0.0))
    grid = found.density.grid
    origin = np.rint(volume.grid.index_from_world @ grid.world_from_index[:, 3]).astype(int)[:3]
    cut = tuple(slice(start, start + size) for start, size in zip(origin, grid.shape, strict=True))
    here_labels = LabelMap(labels.ids[cut], grid, labels.scheme)
    here = {name: one.bmd.bmd_g_cm2 for name, one in found.regions.items()}
    print({name: round(value, 3) for name, value in here.items()}, "g/cm2, nominal")
    worst: dict[tuple[str, str], float] = {}
    for what, moved in moved_spines(found.axes):
        _worst(worst, what, here, _bmd(found.density, spine_regions(here_labels, moved), moved))
    _print(worst)
    if options.pictures:
        bone = np.any([here_labels.mask(f"vertebrae_{name}") for name in found.axes.vertebrae], axis=0)
        parts = [one.mask for name, one in found.regions.items() if name != "lumbar_l1_l4"]
        _picture(options.pictures / "regions_spine.png", found.density, bone, parts, found.axes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    parser.add_argument("--ct", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--pictures", type=Path)
    chosen = parser.parse_args()
    if chosen.ct is not None:
        spine(chosen)
    if chosen.patients:
        hips(chosen)
