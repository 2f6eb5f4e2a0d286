"""`hierbmd evaluate`: how good a model is on patients never seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hierbmd.cli._options import parse
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.options import option


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Agreement, precision and screening of a model on a data set, beside the mean predictor: figures and a report."""

    model: Path = option("the model's folder: a run of hierbmd train regress")
    data: Path = option("the data set's folder, from hierbmd prepare")
    out: Path = option("folder for metrics.json, predictions.csv and report.html")


def main(argv: list[str]) -> int:
    """Run `hierbmd evaluate`; returns the exit status."""
    options = parse("evaluate", Options, argv)
    evaluate_and_report(options.model, options.data, options.out, options)
    print(options.out / "report.html")
    return 0


def evaluate_and_report(model: Path, data: Path, out: Path, options: EvaluationOptions) -> None:
    """Evaluate a model on a data set with a progress bar on stderr; writes the figures and the report into `out`."""
    from hierbmd.cli._progress import progress
    from hierbmd.evaluation.files import write_evaluation
    from hierbmd.evaluation.run import evaluate
    from hierbmd.io.dataset import read_dataset
    from hierbmd.predict import load_predictor
    from hierbmd.report.page import write_report

    predictor, dataset = load_predictor(model), read_dataset(data)
    with progress("reading radiographs") as on_image:
        evaluation = evaluate(predictor, dataset, options, on_image=on_image)
    write_evaluation(out, evaluation, model=predictor.card)
    write_report(out, data)
