"""Draw areal BMD of virtual patients by age and sex beside NHANES: `python tools/bmd_figure.py OUT.png`.

The left total hip and neck, and L1-L4, of the same patients; prints means and SDs by decade.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from hierbmd.simulation.bone_truth import side_truth, spine_truth
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

DECADES = (45.5, 55.5, 65.5, 75.5)
NHANES = {
    ("total hip", "M"): ((1.040, 1.015, 0.997, 0.961), (0.130, 0.142, 0.137, 0.143)),
    ("L1-L4", "M"): ((1.051, 1.053, 1.070, 1.068), (0.129, 0.143, 0.142, 0.177)),
    ("L1-L4", "F"): ((1.056, 0.993, 0.952, 0.902), (0.134, 0.141, 0.142, 0.167)),
    ("total hip", "F"): ((0.941, 0.890, 0.852, 0.783), (0.132, 0.137, 0.135, 0.133)),
}
"""Mean and SD in g/cm2 at 41-50, 51-60, 61-70 and 71-80 years: NHANES 2005-2010 as quoted in Front Endocrinol 2026,
17:1748490, Table 3. Women's total hip is from memory of NCHS Series 11 no. 251 (2012): unverified."""


def measured(index: int, seed: int, spacing_mm: float) -> dict[str, object]:
    """Sex, age and areal BMD in g/cm2 of the left hip and of L1-L4 of one patient."""
    options = PatientOptions(
        seed=seed, spacing_mm=spacing_mm, age_min=40, age_max=88, female_share=0.5, coverage="torso", ct_noise_hu=0.0
    )
    patient = virtual_patient(index, options)
    hip = side_truth(patient.density, patient.labels, "left")
    return {
        "sex": patient.sex,
        "age": patient.age,
        "drawn": patient.anatomy.quality[0].t_score_drawn,
        "drawn_spine": patient.anatomy.spine.t_score_drawn,
        "total hip": hip["total_hip_bmd_g_cm2"],
        "neck": hip["femoral_neck_bmd_g_cm2"],
        "L1-L4": spine_truth(patient.density, patient.labels)["l1_l4_bmd_g_cm2"],
    }


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--spacing-mm", type=float, default=2.5)
    parser.add_argument("--table", type=Path, help="keep what was measured in this CSV file")
    arguments = parser.parse_args()
    rows = [measured(n, 7, arguments.spacing_mm) for n in range(arguments.patients)]
    if arguments.table:
        with arguments.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    tell(rows)
    draw(rows, arguments.out)


def tell(rows: list[dict[str, object]]) -> None:
    """Means and SDs by sex and decade beside NHANES, on stdout."""
    age = np.array([float(str(row["age"])) for row in rows])
    for (site, sex), (means, sds) in NHANES.items():
        bmd = np.array([float(str(row[site])) for row in rows])
        for centre, mean, sd in zip(DECADES, means, sds, strict=True):
            of = (np.abs(age - centre) <= 5.0) & np.array([row["sex"] == sex for row in rows])
            if of.sum() > 1:
                found = f"{bmd[of].mean():.3f} ({bmd[of].std(ddof=1):.3f})"
                print(f"{site:10s} {sex} {centre:.0f} n {of.sum():3d} {found} NHANES {mean} ({sd})")


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Two rows (women, men) of total hip and L1-L4: each patient, and NHANES means with one SD."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True, sharey=True)
    for axis, ((site, sex), (means, sds)) in zip(axes.T.ravel(), sorted(NHANES.items(), reverse=True), strict=True):
        of = [row for row in rows if row["sex"] == sex]
        ages, bmd = [row["age"] for row in of], [row[site] for row in of]
        axis.plot(ages, bmd, "o", ms=3, label="virtual patients (simulated)")
        axis.errorbar(DECADES, means, sds, fmt="k_", capsize=4, label="NHANES 2005-2010, mean and SD")
        axis.set_title(f"{site}, {'women' if sex == 'F' else 'men'}", fontsize=10)
        axis.set_ylabel("areal BMD, g/cm2")
        axis.legend(fontsize=7)
    for axis in axes[1]:
        axis.set_xlabel("age, years")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
