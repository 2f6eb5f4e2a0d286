"""A simulated cohort on disk: CTs, label maps, radiographs, the manifest and the truth; parallel, resumable,
repeatable.

Folder: OUT/manifest.csv, OUT/truth.json and OUT/subjects/SUBJECT/ with ct.nii.gz, labels.nii.gz, calibration.json,
density.nii.gz (the truth), radiograph_00.dcm ... and truth.json, which is written last and marks the subject as done.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.errors import BadConfig, ProcessDied
from hierbmd.geometry import ProjectionGeometry, Side
from hierbmd.io.atomic import write_json
from hierbmd.io.dicom_write import DicomOptions
from hierbmd.io.geometry_file import geometry_to_json
from hierbmd.io.image import write_labels, write_volume
from hierbmd.parallel import in_processes
from hierbmd.rigid import Matrix, Vector
from hierbmd.simulation.bone_motion import Loose, loosened, with_bones_at
from hierbmd.simulation.bone_truth import bones_truth, side_truth, spine_truth
from hierbmd.simulation.cases import BONES, Case, virtual_case
from hierbmd.simulation.options import StudyOptions
from hierbmd.simulation.poses import POSITIONS, draw_femur_motions, draw_geometry, draw_tilt_deg
from hierbmd.simulation.radiograph import expose, materials_of
from hierbmd.simulation.real_case import real_case
from hierbmd.simulation.recipe import TRUTH_VERSION, Recipe, finished_earlier, is_done, require_same
from hierbmd.simulation.storage import write_simulated
from hierbmd.simulation.study_scan import write_ct
from hierbmd.simulation.study_tables import write_tables

_LOG = logging.getLogger(__name__)


def simulate_study(out: str | Path, recipe: Recipe, *, workers: int = 1) -> Iterator[tuple[str, bool]]:
    """Make a study's files, yielding each subject's name and whether it was there already; the manifest comes last.

    Bytes do not depend on `workers` or on being stopped and called again. A cohort that an earlier version finished
    with the same options is taken as it is. BadConfig when the folder holds subjects of
    another recipe; OutputUnwritable when it cannot be written; ProcessDied when a worker did.
    """
    out = Path(out)
    if (version := finished_earlier(out, recipe)) is not None:
        _LOG.warning("%s: finished by version %d of the simulator, today's is %d: taken as it is", out, version,
                     TRUTH_VERSION)  # fmt: skip
        yield from ((recipe.subject(index), True) for index in range(recipe.study.subjects))
        return
    digest = recipe.digest()
    # Another seed's subjects have other names, and would pass by each other until the manifest is overwritten.
    require_same(out / "truth.json", digest)
    indices = range(recipe.study.subjects)
    todo = []
    for index in indices:
        folder = out / "subjects" / recipe.subject(index)
        if is_done(folder, digest):
            yield folder.name, True
        else:
            todo.append(index)
    do = partial(_simulate_subject, out=out, recipe=recipe, digest=digest)
    for index, result in in_processes(do, todo, workers=workers):
        if isinstance(result, ProcessDied):
            raise ProcessDied(result.what, where=recipe.subject(index), mend="fewer workers, then call it again")
        yield result, False
    write_tables(out, recipe, [recipe.subject(index) for index in indices])


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
        "spine": spine_truth(case.density, case.labels, metal_in),
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
    if aim == "lumbar" or recipe.patient.coverage == "lumbar":
        geometry = dataclasses.replace(geometry, side=Side.NONE)
    motions = draw_femur_motions(
        rng, recipe.study, case.hip_centres_world_mm, case.labels.names_present, position=position, tilt_deg=tilt_deg
    )
    moved = with_bones_at(loose, motions)
    exposure_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    site = recipe.site_of(index)
    exposure = dataclasses.replace(recipe.radiograph, site=site)
    radiograph = expose(moved, geometry, options=exposure, seed=exposure_seed)
    radiograph = dataclasses.replace(radiograph, source_isocentre_mm=recipe.study.source_isocentre_mm)
    name = f"radiograph_{pose:02d}.dcm"
    shows = "lumbar spine" if geometry.side == Side.NONE else "hip"
    dicom = DicomOptions(subject=case.subject, description=f"simulated AP {shows}", uid_seed=f"hierbmd simulate {seed}")
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


def _rounded(point: Any) -> list[float]:
    return [round(float(x), 4) for x in point]
