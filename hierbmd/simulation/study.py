"""A simulated cohort on disk: CTs, label maps, radiographs, the manifest and the truth; parallel, resumable,
repeatable.

Folder: OUT/manifest.csv, OUT/truth.json and OUT/subjects/SUBJECT/ with ct.nii.gz, labels.nii.gz, calibration.json,
density.nii.gz (the truth), radiograph_00.dcm ... and truth.json, which is written last and marks the subject as done.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.data.manifest import KNOWN_COLUMNS
from hierbmd.data.phantoms import phantom_to_json
from hierbmd.data.splits import quantile_strata, split_subjects
from hierbmd.errors import BadConfig, OutputUnwritable, ProcessDied
from hierbmd.geometry import ProjectionGeometry
from hierbmd.io.atomic import atomic_path, read_json, write_json
from hierbmd.io.dicom_write import DicomOptions
from hierbmd.io.geometry_file import geometry_to_json
from hierbmd.io.image import write_labels, write_volume
from hierbmd.io.phantom_file import read_phantom
from hierbmd.parallel import in_processes
from hierbmd.rigid import Matrix, Vector
from hierbmd.simulation.bone_motion import Loose, loosened, with_bones_at
from hierbmd.simulation.bone_truth import bones_truth, side_truth, spine_truth
from hierbmd.simulation.cases import BONES, Case, virtual_case
from hierbmd.simulation.morphometry import SIDES, draw_anatomy
from hierbmd.simulation.options import CtOptions, PatientOptions, RadiographSimulationOptions, StudyOptions
from hierbmd.simulation.poses import POSITIONS, draw_femur_motions, draw_geometry, draw_tilt_deg
from hierbmd.simulation.radiograph import expose, materials_of
from hierbmd.simulation.real_case import real_case
from hierbmd.simulation.real_options import RealCtOptions
from hierbmd.simulation.real_original import RealCt
from hierbmd.simulation.storage import write_simulated
from hierbmd.simulation.study_scan import write_ct

TRUTH_VERSION = 3

_OWN_COLUMNS = ("position", "aim", "arthritis_left", "arthritis_right", "implant_left", "implant_right")


@dataclass(frozen=True)
class Recipe:
    """All that decides a subject's files, its number apart."""

    patient: PatientOptions
    radiograph: RadiographSimulationOptions
    study: StudyOptions
    real_ct: RealCt | None = None
    ct: CtOptions = field(default_factory=CtOptions)
    real: RealCtOptions = field(default_factory=RealCtOptions)

    def digest(self) -> str:
        """A hash of what decides one subject's files; how many subjects there are and their splits do not."""
        parts = {"patient": dataclasses.asdict(self.patient), "radiograph": dataclasses.asdict(self.radiograph)}
        parts["study"] = {k: v for k, v in dataclasses.asdict(self.study).items() if k not in _NOT_OF_A_SUBJECT}
        parts["ct"] = {"ct": dataclasses.asdict(self.ct)}
        if self.ct.scanner.phantom.endswith(".json"):
            parts["ct"]["phantom"] = phantom_to_json(read_phantom(self.ct.scanner.phantom))
        if self.real_ct is not None:
            parts["real_ct"] = {"sha256": self.real_ct.sha256(), **dataclasses.asdict(self.real)}
        text = json.dumps([TRUTH_VERSION, parts], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_NOT_OF_A_SUBJECT = ("subjects", "train", "val", "test")


def simulate_study(out: str | Path, recipe: Recipe, *, workers: int = 1) -> Iterator[tuple[str, bool]]:
    """Make a study's files, yielding each subject's name and whether it was there already; the manifest comes last.

    Bytes do not depend on `workers` or on being stopped and called again. BadConfig when the folder holds subjects of
    another recipe; OutputUnwritable when it cannot be written; ProcessDied when a worker did.
    """
    out = Path(out)
    digest = recipe.digest()
    # Another seed's subjects have other names, and would pass by each other until the manifest is overwritten.
    _same_recipe(out / "truth.json", digest)
    indices = range(recipe.study.subjects)
    todo = []
    for index in indices:
        folder = out / "subjects" / subject_name(recipe, index)
        if _is_done(folder, digest):
            yield folder.name, True
        else:
            todo.append(index)
    do = partial(_simulate_subject, out=out, recipe=recipe, digest=digest)
    for index, result in in_processes(do, todo, workers=workers):
        if isinstance(result, ProcessDied):
            raise ProcessDied(result.what, where=subject_name(recipe, index), mend="fewer workers, then call it again")
        yield result, False
    _write_tables(out, recipe, [subject_name(recipe, index) for index in indices])


def subject_name(recipe: Recipe, index: int) -> str:
    """The subject's id: sim or ct, the seed and its number."""
    kind = "sim" if recipe.real_ct is None else "ct"
    return f"{kind}{recipe.patient.seed:03d}-{index:05d}"


def _simulate_subject(index: int, *, out: Path, recipe: Recipe, digest: str) -> str:
    """Make all files of one subject, its truth last; returns its name."""
    seed = recipe.patient.seed
    if recipe.real_ct is None:
        case = virtual_case(index, recipe.patient)
    else:
        case = real_case(index, recipe.real_ct, seed=seed, options=recipe.real)
    folder = out / "subjects" / case.subject
    scanned = write_ct(folder, case, recipe.ct, seed=(seed, index), real=recipe.real_ct is not None)
    write_labels(folder / "labels.nii.gz", case.labels)
    write_volume(folder / "density.nii.gz", case.density)
    femora = [f"femur_{side}" for side in case.hip_centres_world_mm if f"femur_{side}" in case.labels.names_present]
    loose = loosened(materials_of(case.body, recipe.radiograph), case.labels, femora)
    radiographs = [
        _radiograph(folder, case, loose, recipe, (index, pose))
        for pose in range(recipe.study.poses * len(recipe.study.aims))
    ]
    metal_in = tuple(case.facts.get("metal_in", ()))
    truth = {
        "version": TRUTH_VERSION,
        "simulated": True,
        "research_use_only": RESEARCH_USE_ONLY,
        "recipe": digest,
        "subject": case.subject,
        "seed": [seed, index],
        **case.person,
        **case.facts,
        **scanned,
        "hip_centres_world_mm": {side: _rounded(point) for side, point in case.hip_centres_world_mm.items()},
        "sides": {side: side_truth(case.density, case.labels, side, metal_in) for side in ("left", "right")},
        "spine": spine_truth(case.density, case.labels),
        "bones": bones_truth(case.density, case.labels, metal_in),
        "radiographs": radiographs,
    }
    write_json(folder / "truth.json", truth)
    return case.subject


def _radiograph(folder: Path, case: Case, loose: Loose, recipe: Recipe, number: tuple[int, int]) -> dict[str, Any]:
    """Draw a pose, expose, write the DICOM file; returns what truth.json says of it. `number` is (subject, pose)."""
    index, pose = number
    seed = [recipe.patient.seed, index, 1 + pose]
    rng = np.random.default_rng(seed)
    aim, laid = recipe.study.aims[pose // recipe.study.poses], _laid(recipe.study, pose)
    position = POSITIONS.get(laid)
    tilt_deg = draw_tilt_deg(rng, position)
    geometry = draw_geometry(rng, recipe.study, _aim_world_mm(case, aim), tilt_deg=tilt_deg)
    motions = draw_femur_motions(
        rng, recipe.study, case.hip_centres_world_mm, case.labels.names_present, position=position, tilt_deg=tilt_deg
    )
    moved = with_bones_at(loose, motions)
    exposure_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    site = site_of(recipe, index)
    exposure = dataclasses.replace(recipe.radiograph, site=site)
    radiograph = expose(moved, geometry, options=exposure, seed=exposure_seed)
    radiograph = dataclasses.replace(radiograph, source_isocentre_mm=recipe.study.source_isocentre_mm)
    name = f"radiograph_{pose:02d}.dcm"
    dicom = DicomOptions(subject=case.subject, description="simulated AP hip", uid_seed=f"hierbmd simulate {seed}")
    drawn = write_simulated(folder / name, radiograph, geometry, options=exposure, seed=exposure_seed, dicom=dicom)
    how = {"position": laid, "aim": aim, "tilt_deg": round(tilt_deg, 4), "site": site, "exposure": drawn}
    return {**how, **_pose_truth(name, geometry, motions, case, exposure_seed)}


def _laid(study: StudyOptions, pose: int) -> str:
    """The name of the position of one radiograph, "any" where none was asked for."""
    return study.positions[pose % study.poses % len(study.positions)] if study.positions else "any"


def _aim_world_mm(case: Case, aim: str) -> Vector:
    if aim == "ct":
        return case.scan.grid.centre_world_mm
    if aim not in case.aims_world_mm:
        raise BadConfig(f"the CT does not cover the {aim}", where=case.subject, mend="--coverage torso, or --aims ct")
    return case.aims_world_mm[aim]


def site_of(recipe: Recipe, index: int) -> int | None:
    """The number of the X-ray unit that takes a subject's radiographs; None where each image has its own."""
    sites = recipe.study.sites
    return recipe.radiograph.site if sites == 0 else recipe.patient.seed * 1000 + index % sites


def _pose_truth(
    name: str, geometry: ProjectionGeometry, motions: dict[str, Matrix], case: Case, exposure_seed: int
) -> dict[str, Any]:
    """The true pose of the patient (`geometry`) and of each bone, camera_from_world 4x4 in LPS mm."""
    bones = {}
    for bone in BONES:
        if bone in case.labels.names_present:
            pose = geometry.camera_from_world @ motions.get(bone, np.eye(4))
            bones[bone] = {
                "camera_from_world": pose.tolist(),
                "world_from_world": motions.get(bone, np.eye(4)).tolist(),
            }
    return {"file": name, "exposure_seed": exposure_seed, "geometry": geometry_to_json(geometry), "bones": bones}


def _is_done(folder: Path, digest: str) -> bool:
    found = _same_recipe(folder / "truth.json", digest)
    if found is None:
        return False
    files = [found["ct"], "labels.nii.gz", "density.nii.gz", found["calibration_file"]]
    return all((folder / name).exists() for name in [*files, *(r["file"] for r in found["radiographs"])])


def _same_recipe(truth: Path, digest: str) -> dict[str, Any] | None:
    """What a truth.json holds, None where there is none yet; BadConfig when it is of another recipe."""
    if not truth.exists():
        return None
    found = read_json(truth)
    if not isinstance(found, dict) or found.get("recipe") != digest:
        raise BadConfig("made with other options or another version", where=truth.parent, mend="give another --out")
    return found


def _write_tables(out: Path, recipe: Recipe, subjects: list[str]) -> None:
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
        "side": "both",
        "split": split,
        "simulated": "true",
        **person,
    }
    for n, side in enumerate(SIDES):
        common[f"arthritis_{side}"] = round(truth["anatomy"]["arthritis"][n], 3) if "anatomy" in truth else ""
        common[f"implant_{side}"] = truth["anatomy"]["implants"][n] if "anatomy" in truth else ""
    return [
        {**common, "radiograph": f"{folder}/{one['file']}", "position": one["position"], "aim": one["aim"]}
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


def _rounded(point: Any) -> list[float]:
    return [round(float(x), 4) for x in point]
