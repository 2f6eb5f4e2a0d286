"""A finished cohort's tables: truth.json of all subjects, and the manifest with their splits."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.data.manifest import KNOWN_COLUMNS
from hierbmd.data.splits import quantile_strata, split_subjects
from hierbmd.errors import OutputUnwritable
from hierbmd.io.atomic import atomic_path, read_json, write_json
from hierbmd.simulation.morphometry import SIDES, draw_anatomy
from hierbmd.simulation.recipe import TRUTH_VERSION, Recipe

_OWN_COLUMNS = ("position", "aim", "arthritis_left", "arthritis_right", "implant_left", "implant_right")


def write_tables(out: Path, recipe: Recipe, subjects: list[str]) -> None:
    """truth.json of all subjects and the manifest, both whole."""
    truths = [read_json(out / "subjects" / name / "truth.json") for name in subjects]
    splits = _splits(recipe, subjects)
    whole = {
        "version": TRUTH_VERSION,
        "simulated": True,
        "research_use_only": RESEARCH_USE_ONLY,
        "seed": recipe.patient.seed,
        "recipe": recipe.digest(),
        "options": {
            "patient": dataclasses.asdict(recipe.patient),
            "radiograph": dataclasses.asdict(recipe.radiograph),
            "study": dataclasses.asdict(recipe.study),
            "ct": dataclasses.asdict(recipe.ct),
            **({} if recipe.real_ct is None else {"real": dataclasses.asdict(recipe.real)}),
        },
        "subjects": [{**truth, "split": splits[truth["subject"]]} for truth in truths],
    }
    write_json(out / "truth.json", whole)
    try:
        with atomic_path(out / "manifest.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*KNOWN_COLUMNS, "simulated", *_OWN_COLUMNS], restval="", lineterminator="\n")
            writer.writeheader()
            for truth in truths:
                writer.writerows(_manifest_rows(truth, splits[truth["subject"]]))
    except UnicodeError as error:
        raise OutputUnwritable(f"cannot write ({error})", where=out, mend="give another --out") from error


def _manifest_rows(truth: dict[str, Any], split: str) -> list[dict[str, Any]]:
    folder = f"subjects/{truth['subject']}"
    person = {key: truth.get(key, "") for key in ("age", "sex", "height_cm", "weight_kg")}
    common = {
        "subject": truth["subject"],
        "ct": f"{folder}/{truth['ct']}",
        "labels": f"{folder}/labels.nii.gz",
        "calibration": f"{folder}/{truth['calibration_file']}",
        "view": "AP",
        "split": split,
        "simulated": "true",
        **person,
    }
    for n, side in enumerate(SIDES):
        common[f"arthritis_{side}"] = round(truth["anatomy"]["arthritis"][n], 3) if "anatomy" in truth else ""
        common[f"implant_{side}"] = truth["anatomy"]["implants"][n] if "anatomy" in truth else ""
    return [
        {
            **common,
            "radiograph": f"{folder}/{one['file']}",
            "side": one["geometry"]["side"],
            "position": one["position"],
            "aim": one["aim"],
        }
        for one in truth["radiographs"]
    ]


def _splits(recipe: Recipe, subjects: list[str]) -> dict[str, str]:
    """Splits by patient, balanced over the drawn bone density; subjects on one real CT are one patient, for testing."""
    if recipe.real_ct is not None:
        return dict.fromkeys(subjects, "test")
    drawn = {}
    for index, name in enumerate(subjects):
        rng = np.random.default_rng([recipe.patient.seed, index])
        drawn[name] = draw_anatomy(rng, recipe.patient).quality[0].t_score_drawn
    shares = {"train": recipe.study.train, "val": recipe.study.val, "test": recipe.study.test}
    return split_subjects(subjects, shares, seed=recipe.patient.seed, strata=quantile_strata(drawn))
