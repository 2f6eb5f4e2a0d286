"""`hierbmd evaluate`: how good a model is on patients never seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.cli._folds import evaluate_folds
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.evaluation.options import EvaluationOptions, SweepName
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.evaluation.run import Evaluation
    from hierbmd.evaluation.runs import NamedModel
    from hierbmd.io.dataset import Dataset
    from hierbmd.predict import Predictor

CHANGES_FILE = "robustness.csv"


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Agreement, precision and screening of a model on a data set, beside the mean predictor: figures and a report."""

    model: Path | None = option("the model's folder: a run of hierbmd train regress", None)
    folds: tuple[Path, ...] = option(
        "in place of --model, the runs of every fold of a k-fold: each reads the patients that it held out", ()
    )
    data: Path = option("the data set's folder, from hierbmd prepare")
    out: Path = option("folder for metrics.json, figures.csv, predictions.csv and report.html")
    robustness: tuple[SweepName, ...] = option("pose,compression,noise,resolution,exposure,uncalibrated", ())
    manifest: Path | None = option(
        "the manifest of --data: the whole radiograph is perturbed as stored, not the half image", None
    )
    salt: Path | None = option("the salt that --data was prepared with, so that --manifest is understood", None)
    lsc_g_cm2: float | None = option("least significant change, g/cm2; by default from the split's repeats", None)
    compare: tuple[str, ...] = option("other models, RUN or NAME=RUN: paired tests against --model", ())
    learning_curve: bool = option("figures over the patients that --model and the compared runs learned from", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.model is None) != bool(self.folds):
            raise BadConfig("one model, or the runs of a k-fold", mend="give --model, or --folds RUN,RUN,...")
        if self.folds and (self.robustness or self.compare):
            raise BadConfig("--folds goes with no other part", mend="evaluate one --model with it")
        if self.lsc_g_cm2 is not None and not 0 < self.lsc_g_cm2 < 1:
            raise BadConfig("no least significant change", where=f"{self.lsc_g_cm2:g} g/cm2", mend="such as 0.03")
        if self.learning_curve and not self.compare:
            raise BadConfig("one model is no learning curve", mend="name the runs of other sizes with --compare")


def main(argv: list[str]) -> int:
    """Run `hierbmd evaluate`; returns the exit status."""
    options = parse("evaluate", Options, argv)
    if options.folds:
        evaluate_folds(options.folds, options.data, options.out, options)
    else:
        evaluate_and_report(options)
    print(options.out / "report.html")
    return 0


def evaluate_and_report(options: Options) -> None:
    """Evaluate a model on a data set with progress on stderr; writes the figures, tables and report into `out`."""
    from hierbmd.cli._progress import progress
    from hierbmd.evaluation.files import write_evaluation
    from hierbmd.evaluation.run import evaluate
    from hierbmd.io.dataset import read_dataset
    from hierbmd.predict import load_predictor
    from hierbmd.report.page import write_report

    assert options.model is not None
    predictor, dataset = load_predictor(options.model), read_dataset(options.data)
    with progress("reading radiographs") as on_image:
        found = evaluate(predictor, dataset, options, on_image=on_image)
    extra = {**_compared(found, predictor, dataset, options), **_robustness(found, predictor, dataset, options)}
    write_evaluation(options.out, found, model=predictor.card, extra=extra)
    write_report(options.out, options.data)


def _compared(found: Evaluation, predictor: Predictor, dataset: Dataset, options: Options) -> dict[str, Any]:
    from hierbmd.data.density import reference_for
    from hierbmd.evaluation.cases import Readings
    from hierbmd.evaluation.runs import NamedModel, compared, learning_curve, read_all

    if not options.compare:
        return {}
    others = [_named(text) for text in options.compare]
    own = Readings.of(dataset.of_split(options.split), [row["bmd_predicted_g_cm2"] for row in found.rows])
    # A run named as one of the others is a point of its curve; alone it is "model".
    models = [NamedModel("model", predictor), *others]
    readings = [own, *read_all(others, dataset, options.split)]
    reference = reference_for(options.reference, dataset.card.region)
    mean_g_cm2 = found.metrics["mean_predictor_g_cm2"]
    extra: dict[str, Any] = {"comparison": compared(models, readings, mean_g_cm2, options, reference=reference)}
    if options.learning_curve:
        extra["learning_curve"] = learning_curve(models, readings, options, reference=reference)
    return extra


def _named(text: str) -> NamedModel:
    from hierbmd.evaluation.runs import NamedModel
    from hierbmd.predict import load_predictor

    name, equals, folder = text.partition("=")
    return NamedModel(name, load_predictor(folder)) if equals else NamedModel(text, load_predictor(text))


def _robustness(found: Evaluation, predictor: Predictor, dataset: Dataset, options: Options) -> dict[str, Any]:
    from hierbmd.cli._progress import progress
    from hierbmd.evaluation.bootstrap import BootstrapOptions
    from hierbmd.evaluation.estimate import Estimate
    from hierbmd.evaluation.robustness import RadiographFiles, robustness
    from hierbmd.evaluation.sweeps import sweep_rows
    from hierbmd.io.salt import read_salt
    from hierbmd.io.tables import write_table

    if not options.robustness:
        return {}
    salt = None if options.salt is None else read_salt(options.salt)
    files = None if options.manifest is None else RadiographFiles.of_manifest(options.manifest, salt)
    read: Mapping[str, float] = {row["pair_id"]: row["bmd_predicted_g_cm2"] for row in found.rows}
    with progress("perturbed radiographs") as on_image:
        rows = list(
            sweep_rows(
                options.robustness,
                predictor,
                dataset,
                split=options.split,
                predicted_g_cm2=read,
                files=files,
                on_image=on_image,
            )
        )
    write_table(options.out / CHANGES_FILE, list(rows[0]), rows)
    if options.lsc_g_cm2 is None:
        lsc = Estimate.from_json(found.metrics["precision"]["lsc_g_cm2"])
    else:
        lsc = Estimate(options.lsc_g_cm2, unit="g/cm2", reason="given")
    drawn = BootstrapOptions(options.bootstrap_samples, options.seed)
    return {"robustness": robustness(rows, lsc=lsc, options=drawn), "robustness_lsc_g_cm2": lsc.as_json()}
