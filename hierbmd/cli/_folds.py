"""What `evaluate --folds` and `crossvalidate` leave: the out-of-fold figures, a row for every reading, a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hierbmd.evaluation.options import EvaluationOptions


def evaluate_folds(
    runs: Sequence[Path], data: Path, out: Path, options: EvaluationOptions, *, quick: bool = False
) -> None:
    """Read what each run of a repeated k-fold held out; writes metrics, figures, predictions and report.html."""
    from hierbmd.cli._progress import progress
    from hierbmd.evaluation.crossval import cross_validation
    from hierbmd.evaluation.files import write_figures
    from hierbmd.io.dataset import read_dataset
    from hierbmd.report.crossval import write_cross_validation
    from hierbmd.training.folds import fold_runs

    found, parts = fold_runs(runs, data), []
    with progress("held-out patients") as on_run:
        for done, run in enumerate(found, start=1):
            parts.append(run.held_out(data))
            on_run(done, len(found))
    card = read_dataset(data).card
    result = cross_validation(parts, folds=found[0].folds.folds, card=card, options=options)
    models, metrics = [run.card.sha256 for run in found], {**result.metrics, "quick": quick}
    write_figures(out, {**metrics, "model_sha256": models}, result.rows)
    write_cross_validation(out, {**metrics, "model": f"{len(models)} of stage {found[0].card.stage}"})
