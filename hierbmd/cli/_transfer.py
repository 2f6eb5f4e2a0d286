"""The step of a study that reads patients of another source: a real CT in many states, or a cohort that is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.cli._chain import joined_manifest, prepare_pairs, simulate_patients, with_true_bmd
from hierbmd.errors import BadConfig

if TYPE_CHECKING:
    from hierbmd.cli.study import Options
    from hierbmd.evaluation.study import StudyFound
    from hierbmd.io.dataset import Dataset

FOLDER = "transfer"
_FIRST_SEED = 1000
"""Seed of the first CT's subjects; the study's virtual patients have the seeds below."""


def require_source(source: Sequence[Path]) -> None:
    """BadConfig when it is neither a manifest, nor a data set's folder, nor pairs of CT and labels."""
    if len(source) > 1 and len(source) % 2:
        where = ",".join(map(str, source))
        raise BadConfig("a CT without its labels", where=where, mend="CT,LABELS, of several CTs one after the other")


def transferred(found: StudyFound, models: Mapping[str, Path], options: Options) -> dict[str, Any]:
    """Read the patients of `options.transfer` with every model by its system, the main one first; their figures.

    The main system's whole evaluation is left in OUT/transfer/evaluation.
    """
    from hierbmd.cli._progress import progress
    from hierbmd.cli._systems import readings
    from hierbmd.evaluation.files import write_evaluation
    from hierbmd.evaluation.run import evaluate
    from hierbmd.evaluation.transfer import elsewhere, transfer_metrics
    from hierbmd.predict import load_predictor
    from hierbmd.report.page import write_report

    out = options.out / FOLDER
    dataset = elsewhere(_dataset(out, options), found.dataset)
    first = load_predictor(next(iter(models.values())))
    with progress("patients of another source") as on_image:
        evaluation = evaluate(first, dataset, found.options, learnt=found.dataset, on_image=on_image)
    write_evaluation(out / "evaluation", evaluation, model=first.card)
    write_report(out / "evaluation", dataset.folder, title="The hierarchy on patients of another source")
    read = {
        system: readings(model, dataset, dataset.of_split("test"), kept=out / f"{system}.json")
        for system, model in models.items()
    }
    metrics = transfer_metrics(dataset, read, mean_g_cm2=found.mean_g_cm2, options=found.options)
    return {**metrics, "real_cts": len(options.transfer) // 2, "density_image": evaluation.metrics["density_image"]}


def _dataset(out: Path, options: Options) -> Dataset:
    from hierbmd.io.dataset import read_dataset
    from hierbmd.simulation.options import StudyOptions
    from hierbmd.simulation.real_original import RealCt

    source, prepared = options.transfer, out / "dataset"
    if len(source) == 1:
        if source[0].is_dir():
            return read_dataset(source[0])
        prepare_pairs(source[0], prepared, workers=options.workers, quick=options.quick, region=options.region)
        return read_dataset(prepared)
    study = StudyOptions(subjects=options.transfer_patients, poses=options.poses, train=0.0, val=0.0, test=1.0)
    cohorts = [out / "cohort" / f"ct{number}" for number in range(1, len(source) // 2 + 1)]
    for number, cohort in enumerate(cohorts):
        real_ct = RealCt(*source[2 * number : 2 * number + 2])
        seed = _FIRST_SEED * (1 + options.seed) + number
        simulate_patients(cohort, study, seed=seed, workers=options.workers, real_ct=real_ct, region=options.region)
    manifest = joined_manifest(out / "cohort", [cohort.name for cohort in cohorts])
    prepare_pairs(manifest, prepared, workers=options.workers, quick=options.quick, region=options.region)
    return with_true_bmd(read_dataset(prepared), *cohorts)
