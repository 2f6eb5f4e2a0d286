"""All that decides a simulated cohort's files, and whether a folder holds one made by it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierbmd.data.phantoms import phantom_to_json
from hierbmd.errors import BadConfig
from hierbmd.io.atomic import read_json
from hierbmd.io.phantom_file import read_phantom
from hierbmd.simulation.options import CtOptions, PatientOptions, RadiographSimulationOptions, StudyOptions
from hierbmd.simulation.real_options import RealCtOptions
from hierbmd.simulation.real_original import RealCt

TRUTH_VERSION = 5
"""Of truth.json and of what the same options draw; 3: soft tissue follows a moved femur, 4: L1-L4 as DXA cuts them,
5: areal densities by age and sex are those of NHANES 2005-2010."""

_STILL_READ = (2, 3, 4)
"""Earlier versions whose finished cohorts are good for all that reads a cohort."""

_NOT_OF_A_SUBJECT = ("subjects", "train", "val", "test")


@dataclass(frozen=True)
class Recipe:
    """All that decides a subject's files, its number apart."""

    patient: PatientOptions
    radiograph: RadiographSimulationOptions
    study: StudyOptions
    real_ct: RealCt | None = None
    ct: CtOptions = field(default_factory=CtOptions)
    real: RealCtOptions = field(default_factory=RealCtOptions)

    def digest(self, version: int = TRUTH_VERSION) -> str:
        """A hash of what decides one subject's files; how many subjects there are and their splits do not."""
        parts = {"patient": dataclasses.asdict(self.patient), "radiograph": dataclasses.asdict(self.radiograph)}
        parts["study"] = {k: v for k, v in dataclasses.asdict(self.study).items() if k not in _NOT_OF_A_SUBJECT}
        parts["ct"] = {"ct": dataclasses.asdict(self.ct)}
        if self.ct.scanner.phantom.endswith(".json"):
            parts["ct"]["phantom"] = phantom_to_json(read_phantom(self.ct.scanner.phantom))
        if self.real_ct is not None:
            parts["real_ct"] = {"sha256": self.real_ct.sha256(), **dataclasses.asdict(self.real)}
        text = json.dumps([version, parts], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def subject(self, index: int) -> str:
        """A subject's id: sim or ct, the seed and its number."""
        kind = "sim" if self.real_ct is None else "ct"
        return f"{kind}{self.patient.seed:03d}-{index:05d}"

    def site_of(self, index: int) -> int | None:
        """The number of the X-ray unit that takes a subject's radiographs; None where each image has its own."""
        sites = self.study.sites
        return self.radiograph.site if sites == 0 else self.patient.seed * 1000 + index % sites


def require_same(truth: Path, digest: str) -> dict[str, Any] | None:
    """What a truth.json holds, None where there is none yet; BadConfig when it is of another recipe."""
    if not truth.exists():
        return None
    found = read_json(truth)
    if not isinstance(found, dict) or found.get("recipe") != digest:
        raise BadConfig("made with other options or another version", where=truth.parent, mend="give another --out")
    return found


def is_done(folder: Path, digest: str) -> bool:
    """Whether a subject's folder is whole; BadConfig when it is of another recipe."""
    found = require_same(folder / "truth.json", digest)
    if found is None:
        return False
    files = [found["ct"], "labels.nii.gz", "density.nii.gz", found["calibration_file"]]
    return all((folder / name).exists() for name in [*files, *(r["file"] for r in found["radiographs"])])


def finished_earlier(out: Path, recipe: Recipe) -> int | None:
    """The earlier version of the simulator that finished this very cohort, None where none did.

    Its files would come out a little differently today, but they are whole, and true to the truth beside them: what
    was begun on them (a data set, a study) can go on. A cohort that an earlier version left unfinished cannot: half of
    it would be of the one kind and half of the other.
    """
    if not (out / "truth.json").exists() or not (out / "manifest.csv").exists():
        return None
    found = read_json(out / "truth.json")
    version = found.get("version") if isinstance(found, dict) else None
    if version not in _STILL_READ or found.get("recipe") != recipe.digest(version):
        return None
    study = json.loads(json.dumps(dataclasses.asdict(recipe.study)))
    folders = [out / "subjects" / recipe.subject(index) for index in range(recipe.study.subjects)]
    same = found["options"]["study"] == study
    return version if same and all(is_done(folder, found["recipe"]) for folder in folders) else None
