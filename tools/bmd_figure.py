"""Draw areal BMD of virtual patients by age and sex beside NHANES: `python tools/bmd_figure.py OUT.png`.

The left total hip and neck, and L1-L4, of the same patients; prints means and SDs by decade. `--cohort FOLDER` takes
total hips from the truth of a cohort that `hierbmd simulate` left, in place of theirs.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierbmd.io.atomic import read_json
from hierbmd.simulation.bone_truth import side_truth, spine_truth
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient
from hierbmd.simulation.population import POPULATION, Site

SITES: dict[str, Site] = {"total hip": "total_hip", "L1-L4": "lumbar_l1_l4"}
FIRST_YEARS = 40.0
"""Of the patients; decades before it are left out."""


def measured(index: int, seed: int, spacing_mm: float) -> dict[str, object]:
    """Sex, age and areal BMD in g/cm2 of the left hip and of L1-L4 of one patient."""
    options = PatientOptions(
        seed=seed,
        spacing_mm=spacing_mm,
        age_min=FIRST_YEARS,
        age_max=88,
        female_share=0.5,
        coverage="torso",
        ct_noise_hu=0.0,
    )
    patient = virtual_patient(index, options)
    hip, spine = side_truth(patient.density, patient.labels, "left"), spine_truth(patient.density, patient.labels)
    for refused in (one["refused"] for one in (hip, spine) if "refused" in one):
        print(f"{patient.subject}: {refused}")
    return {
        "sex": patient.sex,
        "age": patient.age,
        "drawn": patient.anatomy.quality[0].t_score_drawn,
        "drawn_spine": patient.anatomy.spine.t_score_drawn,
        "total hip": hip.get("total_hip_bmd_g_cm2"),
        "neck": hip.get("femoral_neck_bmd_g_cm2"),
        "L1-L4": spine.get("l1_l4_bmd_g_cm2"),
    }


def of_cohort(folder: Path) -> list[dict[str, object]]:
    """Sex, age and areal BMD of the left total hip of a simulated cohort's patients, as its truth.json has them."""
    subjects = read_json(folder / "truth.json")["subjects"]
    return [
        {"sex": one["sex"], "age": one["age"], "total hip": one["sides"]["left"].get("total_hip_bmd_g_cm2")}
        for one in subjects
    ]


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--spacing-mm", type=float, default=2.5)
    parser.add_argument("--cohort", type=Path, help="a folder of hierbmd simulate: total hips from its truth")
    parser.add_argument("--table", type=Path, help="keep what was measured in this CSV file")
    arguments = parser.parse_args()
    rows = [measured(n, 7, arguments.spacing_mm) for n in range(arguments.patients)]
    if arguments.table:
        with arguments.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if arguments.cohort:
        rows = [{**row, "total hip": None} for row in rows] + of_cohort(arguments.cohort)
    tell(rows)
    draw(rows, arguments.out)


def tell(rows: list[dict[str, object]]) -> None:
    """Means and SDs by sex and decade beside NHANES, on stdout."""
    for name, site in SITES.items():
        for sex in "FM":
            age, bmd = measured_at(rows, name, sex)
            apart = bmd - [POPULATION[site, sex].mean_g_cm2(one) for one in age]
            error = apart.std(ddof=1) / np.sqrt(len(age))
            print(f"{name:10s} {sex} n {len(age):3d} apart from NHANES at its age {apart.mean():+.3f}"
                  f" (SE {error:.3f}, SD {apart.std(ddof=1):.3f})")  # fmt: skip
            for centre, mean, sd in decades(site, sex):
                of = np.abs(age - centre) <= 5.0
                if of.sum() > 1:
                    found = f"{bmd[of].mean():.3f} ({bmd[of].std(ddof=1):.3f})"
                    print(f"{name:10s} {sex} {centre:.0f} n {of.sum():3d} {found} NHANES {mean} ({sd})")


def measured_at(rows: list[dict[str, object]], name: str, sex: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ages and areal BMD of the patients of one sex in whom a site was measured."""
    of = [(float(str(row["age"])), float(str(row[name]))) for row in rows if row["sex"] == sex and row.get(name)]
    age, bmd = np.array(of).reshape(-1, 2).T
    return age, bmd


def decades(site: Site, sex: str) -> list[tuple[float, float, float]]:
    """Age, mean and SD of the published decades that the patients' ages reach."""
    of = POPULATION[site, sex]
    every = zip(of.ages_years, of.means_g_cm2, of.sds_g_cm2, strict=True)
    return [one for one in every if one[0] > FIRST_YEARS]


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Two rows (women, men) of total hip and L1-L4: each patient, and NHANES means with one SD."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True, sharey=True)
    for axis, (name, sex) in zip(axes.T.ravel(), [(name, sex) for name in SITES for sex in "FM"], strict=True):
        axis.plot(*measured_at(rows, name, sex), "o", ms=3, label="virtual patients (simulated)")
        centres, means, sds = zip(*decades(SITES[name], sex), strict=True)
        axis.errorbar(centres, means, sds, fmt="k_", capsize=4, label="NHANES 2005-2010, mean and SD")
        axis.set_title(f"{name}, {'women' if sex == 'F' else 'men'}", fontsize=10)
        axis.set_ylabel("areal BMD, g/cm2")
        axis.legend(fontsize=7)
    for axis in axes[1]:
        axis.set_xlabel("age, years")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
