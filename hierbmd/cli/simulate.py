"""`hierbmd simulate`: virtual patients and radiographs with known truth."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.simulation.study import Recipe


@dataclass(frozen=True)
class Options:
    """Virtual patients, or one real CT in many states, with radiographs at known poses. Research use only."""

    out: Path = option("folder for manifest.csv, truth.json and subjects/")
    subjects: int = option("how many patients", 24)
    seed: int = option("seed of everything; a patient depends on it and its number alone", 0)
    poses: int = option("radiographs of each patient, each at its own pose", 1)
    from_ct: Path | None = option("build the patients on this real CT instead of virtual ones", None)
    labels: Path | None = option("label map of --from-ct, TotalSegmentator v2 ids", None)
    spacing_mm: float = option("voxel size of virtual CTs, mm", 2.0)
    size: tuple[int, int] = option("WxH, a radiograph's columns and rows", (256, 256))
    pixel_mm: float = option("pixel size on the detector, mm", 1.6)
    sdd_mm: float = option("distance from the source to the detector, mm", 1150.0)
    source_isocenter_mm: float = option("distance from the source to the isocentre, mm", 1000.0)
    rotation_deg: float = option("spread of the patient's rotation about each axis, deg", 2.0)
    shift_mm: float = option("spread of the patient's shift along each axis, mm", 6.0)
    femur_deg: float = option("spread of each femur's rotation about its head, deg", 3.0)
    kvp: float | None = option("tube voltage, 70-120; drawn from 75-90 without", None)
    grid: bool = option("an antiscatter grid", True)
    realism: Literal["plain", "realistic"] = option(
        "realistic: heel effect, collimation, markers, detector response, vendor contrast and storage, drawn", "plain"
    )
    rays: int = option("rays along each side of a pixel", 1)
    age_min: float = option("youngest age, years", 45.0)
    age_max: float = option("oldest age, years", 90.0)
    female_share: float = option("share of women", 0.75)
    t_score_sd: float = option("spread of bone density about its mean for age and sex, in young-adult SD", 1.25)
    sites: int = option("X-ray units that took the radiographs, patients in turn; 0: every image is of its own", 1)
    train: float = option("share of patients to train on", 0.6)
    val: float = option("share of patients to tune on", 0.15)
    test: float = option("share of patients kept for the end", 0.25)
    workers: int = option("processes; the files do not depend on it", 1)


def main(argv: list[str]) -> int:
    """Run `hierbmd simulate`; returns the exit status."""
    return run(parse("simulate", Options, argv))


def run(options: Options) -> int:
    """Make the study with its progress on stderr; refusals are raised."""
    from hierbmd.cli._progress import progress
    from hierbmd.simulation.study import simulate_study

    recipe = recipe_of(options)
    kept = 0
    with progress("virtual patients") as advance:
        found = simulate_study(options.out, recipe, workers=options.workers)
        for done, (_, was_there) in enumerate(found, start=1):
            kept += was_there
            advance(done, options.subjects)
    made = options.subjects - kept
    already = f", {kept} were there already" if kept else ""
    print(f"{made} subjects simulated{already}: {options.out / 'manifest.csv'}", file=sys.stderr)
    return 0


def recipe_of(options: Options) -> Recipe:
    """The library's options of the command's; BadConfig for what cannot go together."""
    from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions, StudyOptions
    from hierbmd.simulation.study import RealCt, Recipe

    if (options.from_ct is None) != (options.labels is None):
        raise BadConfig("--from-ct and --labels go together", mend="give both or neither")
    if options.workers < 1 or options.seed < 0:
        raise BadConfig("--workers is at least 1 and --seed at least 0", mend="give others")
    return Recipe(
        PatientOptions(
            seed=options.seed,
            spacing_mm=options.spacing_mm,
            age_min=options.age_min,
            age_max=options.age_max,
            female_share=options.female_share,
            t_score_sd=options.t_score_sd,
        ),
        RadiographSimulationOptions(
            kvp=options.kvp,
            grid=options.grid,
            realism=options.realism,
            rays=options.rays,
            table=options.from_ct is not None,
        ),
        StudyOptions(
            subjects=options.subjects,
            poses=options.poses,
            size_px=options.size,
            pixel_mm=options.pixel_mm,
            sdd_mm=options.sdd_mm,
            source_isocentre_mm=options.source_isocenter_mm,
            sites=options.sites,
            rotation_deg=options.rotation_deg,
            shift_mm=options.shift_mm,
            femur_deg=options.femur_deg,
            train=options.train,
            val=options.val,
            test=options.test,
        ),
        RealCt(options.from_ct, options.labels) if options.from_ct is not None and options.labels is not None else None,
    )
