"""Draw what one-sided arthritis does to areal BMD of virtual patients: `python tools/arthritis_figure.py OUT.png`.

Total hip and neck of the worn side against the other side of the same patient, by severity, beside the published means
of unilateral osteoarthritis; prints means with their standard errors. Simulated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierbmd.simulation.bone_truth import side_truth
from hierbmd.simulation.morphometry import SIDES, draw_anatomy
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

REGIONS = ("total_hip", "femoral_neck")
PUBLISHED_PERCENT = {"total_hip": -6.9, "femoral_neck": 14.5}
"""Worn against other side of 108 women by QCT: Uemura et al., Bone 2025, doi 10.1016/j.bone.2025.117456 (abstract)."""


def one_sided(options: PatientOptions, patients: int) -> list[int]:
    """The numbers of the first patients with arthritis of one hip alone."""
    found = []
    for index in range(100 * patients):
        worn = draw_anatomy(np.random.default_rng([options.seed, index]), options).arthritis
        found += [index] if max(worn) > 0.0 == min(worn) else []
        if len(found) == patients:
            return found
    raise SystemExit("too few patients with arthritis of one hip: a larger arthritis_share")


def differences(index: int, options: PatientOptions) -> tuple[float, float, float]:
    """Severity, and how far total hip and neck of the worn side are from the other side, percent."""
    patient = virtual_patient(index, options)
    worn = int(np.argmax(patient.anatomy.arthritis))
    here, there = (side_truth(patient.density, patient.labels, side) for side in (SIDES[worn], SIDES[1 - worn]))
    total, neck = (100.0 * (here[f"{name}_bmd_g_cm2"] / there[f"{name}_bmd_g_cm2"] - 1.0) for name in REGIONS)
    return patient.anatomy.arthritis[worn], total, neck


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    arguments = parser.parse_args()
    options = PatientOptions(seed=19, spacing_mm=arguments.spacing_mm, arthritis_share=1.0, ct_noise_hu=0.0)
    rows = np.array([differences(index, options) for index in one_sided(options, arguments.patients)])
    for name, values in zip(REGIONS, rows.T[1:], strict=True):
        error = values.std(ddof=1) / np.sqrt(len(values))
        print(f"{name:13s} {values.mean():+.1f} % (SE {error:.1f}, SD {values.std(ddof=1):.1f}, n {len(values)},"
              f" published {PUBLISHED_PERCENT[name]:+.1f} %)")  # fmt: skip
    draw(rows, arguments.out)


def draw(rows: NDArray[np.float64], path: Path) -> None:
    """Each patient by severity, with the mean and the published one as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, name, values in zip(axes, REGIONS, rows.T[1:], strict=True):
        axis.plot(rows[:, 0], values, "o", ms=4, label="virtual patients (simulated)")
        axis.axhline(values.mean(), color="C0", label=f"their mean, {values.mean():+.1f} %")
        published = PUBLISHED_PERCENT[name]
        axis.axhline(published, color="k", ls="--", label=f"published mean, {published:+.1f} %")
        axis.axhline(0.0, color="0.8", lw=0.8, zorder=0)
        axis.set_title(f"{name.replace('_', ' ')}, worn side against the other", fontsize=10)
        axis.set_xlabel("severity drawn, 0 to 1")
        axis.legend(fontsize=7)
    axes[0].set_ylabel("difference of areal BMD, %")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
