"""What one patient costs: calibrated by the phantom, segmented by one atlas, measured; each step a process of its own.

    python benchmarks/whole_patient.py --out out/bench/segmentation [--threads 2] [--pixel-mm 1] [--interval-mm 2]

Two virtual patients are scanned on a phantom of rods at the given voxels: one is the atlas, with its true labels. Wall
and CPU seconds and the peak of resident memory are those of the processes as the system counts them. Simulated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine

from hierbmd.io.atomic import write_json

PHANTOM = "B-MAS200"
BODY_MM = 2.0
_KIB_PER_MB = 1e6 / 1024.0


def made(folder: Path, number: int, options: argparse.Namespace) -> tuple[Path, Path]:
    """CT and true labels of virtual patient `number`, scanned on a phantom; kept once they are there."""
    ct, labels = folder / f"ct_{number}.nii.gz", folder / f"labels_{number}.nii.gz"
    if not (ct.is_file() and labels.is_file()):
        from hierbmd.io.image import write_labels, write_volume
        from hierbmd.io.labels import resample_labels
        from hierbmd.simulation.options import PatientOptions, ScanOptions
        from hierbmd.simulation.patient import virtual_patient
        from hierbmd.simulation.scanner import scan

        patient = virtual_patient(number, PatientOptions(spacing_mm=BODY_MM, seed=options.seed))
        settings = {"pixel_mm": options.pixel_mm, "interval_mm": options.interval_mm}
        settings |= {"thickness_mm": options.interval_mm, "fov_mm": options.fov_mm}
        found = scan(patient, ScanOptions(phantom=PHANTOM, kvp=120.0, noise_hu=12.0, **settings), number)
        write_volume(ct, found.volume)
        write_labels(labels, resample_labels(patient.labels, found.volume.grid))
    return ct, labels


def measured(step: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """Run a command to its end: its wall and CPU seconds, and the peak of its memory, MB."""
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "NUMBA")}
    started = time.perf_counter()
    process = subprocess.Popen(arguments, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    if status:
        raise SystemExit(f"{step} failed: {' '.join(arguments)}")
    peak_mb = used.ru_maxrss / _KIB_PER_MB
    return {"step": step, "wall_s": wall_s, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": peak_mb}


def measure(ct: Path, labels: Path, calibration: Path) -> dict[str, float]:
    """Areal BMD of every region of both hips at the standard view, g/cm2."""
    from hierbmd.anatomy.hip import measure_hip
    from hierbmd.io.calibration_file import read_calibration
    from hierbmd.io.ct import read_volume
    from hierbmd.io.labels import read_labels

    volume = read_volume(ct)
    found = read_labels(labels, onto=volume.grid)
    answer = {}
    for side in ("left", "right"):
        hip = measure_hip(volume, found, side, read_calibration(calibration))
        answer |= {f"{name}_{side}": round(region.bmd.bmd_g_cm2, 4) for name, region in hip.regions.items()}
    return answer


def truth(number: int, options: argparse.Namespace) -> dict[str, float]:
    """The same of the patient's own density by its own labels, without a scanner."""
    from hierbmd.anatomy.areal import areal_bmd
    from hierbmd.anatomy.femur import femur_axes
    from hierbmd.anatomy.regions import hip_regions
    from hierbmd.simulation.options import PatientOptions
    from hierbmd.simulation.patient import virtual_patient

    patient = virtual_patient(number, PatientOptions(spacing_mm=BODY_MM, seed=options.seed))
    answer = {}
    for side in ("left", "right"):
        femur, grid = patient.labels.mask(f"femur_{side}"), patient.labels.grid
        axes = femur_axes(femur, grid)
        for name, mask in hip_regions(femur, grid, axes).items():
            answer[f"{name}_{side}"] = round(areal_bmd(patient.density, mask, axes).bmd_g_cm2, 4)
    return answer


def overlap(carried: Path, true: Path) -> dict[str, float]:
    """Dice of each bone that both label maps have."""
    from segmentation import dice

    from hierbmd.io.labels import read_labels

    found, real = read_labels(carried), read_labels(true)
    names = [name for name in found.names_present if name in real.names_present]
    return {name: round(dice(found.mask(name), real.mask(name)), 4) for name in names}


def whole(options: argparse.Namespace) -> dict[str, Any]:
    """Every step of one patient, and what there was to do."""
    from hierbmd.io.ct import read_volume

    folder: Path = options.out / f"whole_{options.pixel_mm:g}_{options.interval_mm:g}"
    (ct, true_labels), (atlas, atlas_labels) = (made(folder, number, options) for number in (0, 1))
    hierbmd, line = [sys.executable, "-m", "hierbmd.cli"], folder / "calibration"
    bones = folder / "bones"
    steps = {
        "calibrate": [*hierbmd, "calibrate", ct, "--phantom", PHANTOM, "--out", line],
        "segment by one atlas": [
            *(*hierbmd, "segment", ct, "--atlas", f"{atlas},{atlas_labels}"),
            *("--elastix-threads", options.threads, "--out", bones),
        ],
        "regions and areal BMD of both hips": [
            *(sys.executable, __file__, "--out", folder),
            *("--measure", ct, bones / "labels.nii.gz", line / "calibration.json"),
        ],
    }
    on = machine(options.threads)
    rows = [measured(step, [str(word) for word in words], options.threads) for step, words in steps.items()]
    carried = bones / "labels.nii.gz"
    values = {"by atlas": measure(ct, carried, line / "calibration.json"), "true": truth(0, options)}
    sizes = {"shape": list(read_volume(ct).grid.shape), "spacing_mm": options.pixel_mm}
    sizes |= {"interval_mm": options.interval_mm}
    return {"machine": on, **sizes, "steps": rows, "bmd_g_cm2": values, "dice": overlap(carried, true_labels)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench/segmentation"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pixel-mm", type=float, default=1.0)
    parser.add_argument("--interval-mm", type=float, default=2.0)
    parser.add_argument("--fov-mm", type=float, default=450.0)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument(
        "--make-only", action="store_true", help="the scans alone, so that a quiet machine need not wait"
    )
    parser.add_argument("--measure", type=Path, nargs=3, metavar=("CT", "LABELS", "CALIBRATION"))
    chosen = parser.parse_args()
    if chosen.measure:
        print(measure(*chosen.measure))
    elif chosen.make_only:
        for patient in (0, 1):
            made(chosen.out / f"whole_{chosen.pixel_mm:g}_{chosen.interval_mm:g}", patient, chosen)
    else:
        found = whole(chosen)
        write_json(chosen.out / "whole_patient.json", found)
        for row in found["steps"]:
            print(f"{row['step']}: {row['wall_s']:.1f} s, {row['cpu_s']:.1f} CPU s, {row['peak_mb']:.0f} MB")
