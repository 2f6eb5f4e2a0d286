"""`hierbmd simulate`: virtual patients and radiographs with known truth."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.options import option, part
from hierbmd.simulation.options import CtOptions, PatientOptions, RadiographSimulationOptions, StudyOptions
from hierbmd.simulation.real_options import RealCtOptions

if TYPE_CHECKING:
    from hierbmd.simulation.recipe import Recipe

_CONTRACT_NAMES = {"size_px": "size", "source_isocentre_mm": "source_isocenter_mm"}
_OF_THE_STUDY = ("table", "site")
_OF_A_RADIOGRAPH = tuple(one.name for one in fields(RadiographSimulationOptions) if one.name not in _OF_THE_STUDY)


@dataclass(frozen=True)
class Options:
    """Virtual patients, or one real CT in many states, with radiographs at known poses. Research use only."""

    out: Path = option("folder for manifest.csv, truth.json and subjects/")
    from_ct: Path | None = option("build the patients on this real CT instead of virtual ones", None)
    labels: Path | None = option("label map of --from-ct, TotalSegmentator v2 ids", None)
    calibration: Path | None = option("calibration.json of --from-ct; without it density is nominal, and says so", None)
    workers: int = option("processes; the files do not depend on it", 1)
    study: StudyOptions = field(default_factory=StudyOptions, metadata=part(names=_CONTRACT_NAMES))
    patient: PatientOptions = field(default_factory=PatientOptions, metadata=part())
    radiograph: RadiographSimulationOptions = field(
        default_factory=RadiographSimulationOptions, metadata=part(only=_OF_A_RADIOGRAPH)
    )
    ct: CtOptions = field(default_factory=CtOptions, metadata=part())
    real: RealCtOptions = field(default_factory=RealCtOptions, metadata=part())


def main(argv: list[str]) -> int:
    """Run `hierbmd simulate`; returns the exit status."""
    return run(parse("simulate", Options, argv))


def run(options: Options) -> int:
    """Make the study with its progress on stderr; refusals are raised."""
    from hierbmd.cli._progress import progress
    from hierbmd.simulation.study import simulate_study

    recipe = recipe_of(options)
    kept = 0
    with progress("patients") as advance:
        found = simulate_study(options.out, recipe, workers=options.workers)
        for done, (_, was_there) in enumerate(found, start=1):
            kept += was_there
            advance(done, options.study.subjects)
    made = options.study.subjects - kept
    already = f", {kept} were there already" if kept else ""
    print(f"{made} subjects simulated{already}: {options.out / 'manifest.csv'}", file=sys.stderr)
    return 0


def recipe_of(options: Options) -> Recipe:
    """The library's options of the command's; BadConfig for what cannot go together."""
    from hierbmd.simulation.real_original import RealCt
    from hierbmd.simulation.recipe import Recipe

    if (options.from_ct is None) != (options.labels is None):
        raise BadConfig("--from-ct and --labels go together", mend="give both or neither")
    if options.workers < 1 or options.patient.seed < 0:
        raise BadConfig("--workers is at least 1 and --seed at least 0", mend="give others")
    if options.calibration is not None and options.from_ct is None:
        raise BadConfig("--calibration is that of --from-ct", mend="virtual patients have a scanner of their own")
    real_ct = None
    if options.from_ct and options.labels:
        real_ct = RealCt(options.from_ct, options.labels, options.calibration)
    # Only a real CT has a scanner's table under the patient.
    radiograph = replace(options.radiograph, table=real_ct is not None)
    return Recipe(options.patient, radiograph, options.study, real_ct, options.ct, options.real)
