"""The steps that a demonstration and a study share: what each does, which one runs, how long it took."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.geometry import Side

if TYPE_CHECKING:
    from hierbmd.data.pairs import PairRecord
    from hierbmd.io.dataset import Dataset
    from hierbmd.simulation.options import StudyOptions
    from hierbmd.simulation.real_original import RealCt

StudiedRegion = Literal["total_hip", "lumbar_l1_l4"]

SPINE_FRAME = ((112, 160), (1.8, 1.8))
"""Pixels and their mm of a lumbar image, as configs/spine/prepare.yaml has them."""

TRUTH_SOURCE = "simulation truth"
"""What `bmd_source` says of a reference that is the virtual patient's own density, not what its scan was read as."""

_LOG = logging.getLogger(__name__)


class Steps:
    """Says which step runs, and adds up its seconds over interruptions in OUT/seconds.json."""

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        from hierbmd.io.atomic import read_json

        self.path, self.names = out / "seconds.json", tuple(names)
        self.seconds: dict[str, float] = read_json(self.path) if self.path.is_file() else {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Run a step; its time counts even when it is stopped."""
        from hierbmd.io.atomic import write_json

        _LOG.info("step %d of %d: %s", self.names.index(name) + 1, len(self.names), name)
        start, earlier = time.monotonic(), self.seconds.get(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] = round(earlier + time.monotonic() - start, 1)
            write_json(self.path, self.seconds)


def simulate_patients(
    cohort: Path,
    study: StudyOptions,
    *,
    seed: int,
    workers: int,
    real_ct: RealCt | None = None,
    quick: bool = False,
    region: StudiedRegion = "total_hip",
) -> None:
    """Virtual patients, or those made from a real CT, with one X-ray unit's radiographs; quick: virtual ones coarse.

    A seed's virtual patients are the same whatever region their radiographs show; for lumbar ones their CT holds the
    hips too.
    """
    from hierbmd.cli._progress import progress
    from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions
    from hierbmd.simulation.recipe import Recipe
    from hierbmd.simulation.study import simulate_study

    patients = PatientOptions(seed=seed, spacing_mm=4.0 if quick else 2.5)
    if region == "lumbar_l1_l4":
        patients, study = replace(patients, coverage="torso"), replace(study, aims=("lumbar",))
    recipe = Recipe(patients, RadiographSimulationOptions(table=real_ct is not None), study, real_ct)
    with progress("virtual patients" if real_ct is None else "patients from a real CT") as on_subject:
        for done, _ in enumerate(simulate_study(cohort, recipe, workers=workers), start=1):
            on_subject(done, study.subjects)


def prepare_pairs(
    manifest: Path, dataset: Path, *, workers: int, quick: bool = False, region: StudiedRegion = "total_hip"
) -> None:
    """The training set of virtual patients."""
    from hierbmd.anatomy.options import RegionOptions
    from hierbmd.cli._progress import progress
    from hierbmd.cohort import PrepareOptions, prepare
    from hierbmd.data.halves import HalfFrame
    from hierbmd.pairing.options import PairingOptions, RowOptions
    from hierbmd.registration.options import RegistrationOptions

    # The simulated patients lie near where registration starts; two starts that agree find them as well as six.
    frame = HalfFrame() if region == "total_hip" else HalfFrame(*SPINE_FRAME)
    pairing = PairingOptions(frame, RegionOptions(region=region), RegistrationOptions(starts=2))
    if quick:
        coarse = RegistrationOptions(starts=1, level_pixel_mm=(8.0, 4.0))
        pairing = replace(pairing, frame=HalfFrame((64, 128), (3.2, 3.2)), registration=coarse)
    settings = PrepareOptions(row=RowOptions(pairing=pairing), workers=workers)
    with progress("training pairs") as on_patient:
        prepare(manifest, dataset, settings, progress=on_patient)


def with_true_bmd(dataset: Dataset, *cohorts: Path) -> Dataset:
    """The data set with the voxel truth of the simulation in place of what a CT was read as: each hip's, or L1-L4's."""
    from hierbmd.io.atomic import read_json

    subjects = [subject for cohort in cohorts for subject in read_json(cohort / "truth.json")["subjects"]]
    truth = {subject["subject"]: subject for subject in subjects}

    def true_bmd(record: PairRecord) -> float:
        known = truth[record.subject]
        if record.side is Side.NONE:
            return float(known["spine"]["l1_l4_bmd_g_cm2"])
        return float(known["sides"][record.side.value]["total_hip_bmd_g_cm2"])

    records = tuple(replace(r, bmd_g_cm2=true_bmd(r), bmd_source=TRUTH_SOURCE) for r in dataset.records)
    return replace(dataset, records=records)


def joined_manifest(root: Path, parts: Sequence[str]) -> Path:
    """One manifest of cohorts in folders below it; returns its file."""
    from hierbmd.data.manifest import PATH_COLUMNS
    from hierbmd.io.tables import write_table

    rows: list[Mapping[str, str]] = []
    for part in parts:
        with (root / part / "manifest.csv").open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                rows.append({**row, **{name: f"{part}/{row[name]}" for name in PATH_COLUMNS if row.get(name)}})
    write_table(root / "manifest.csv", list(rows[0]), rows)
    return root / "manifest.csv"
