"""A virtual lumbar cohort from CTs to figures: `python tools/lumbar_study.py OUT --patients 60 --seed 3`.

Simulated patients with one lumbar radiograph each, pairs of L1-L4, the three stages on them and the lumbar-and-femur
system on the same patients; prints the table of docs/baselines.md. Each step goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierbmd.cli.main import main as hierbmd
from hierbmd.io.atomic import read_json

REFERENCE = "nhanes-female-lumbar-l1-l4"


def main() -> None:
    """Run every step, then print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--test", type=float, default=0.3, help="share of the patients kept for the end")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--spacing-mm", type=float, default=4.0)
    parser.add_argument("--pixel-mm", type=float, default=2.4, help="of the frame, which is 84 x 120 pixels")
    parser.add_argument("--epochs", type=int, default=60, help="of the lumbar-and-femur system's folds")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    cohort, data = options.out / "cohort", options.out / "dataset"
    patients = ["--subjects", options.patients, "--seed", options.seed, "--coverage", "torso", "--aims", "lumbar"]
    images = ["--spacing-mm", options.spacing_mm, "--size", "160x224", "--pixel-mm", 1.8]
    shares = ["--train", 1 - options.test - 0.1, "--val", 0.1, "--test", options.test]
    _run("simulate", "--out", cohort, *patients, *images, *shares, "--workers", options.workers)
    frame = ["--frame-px", "84x120", "--frame-pixel-mm", f"{options.pixel_mm},{options.pixel_mm}"]
    target = ["--region", "lumbar_l1_l4", *frame, "--starts", 2]
    _run("prepare", cohort / "manifest.csv", "--out", data, *target, "--workers", options.workers)
    runs = {stage: options.out / "runs" / stage for stage in ("decompose", "synthesize", "regress")}
    before: list[Any] = []
    for stage, run in runs.items():
        _run("train", stage, "--data", data, "--out", run, *before, "--config", f"spine/{stage}")
        before = ["--from", run]
    both = options.out / "runs" / "lumbar_femur"
    fitted = ["--epochs", options.epochs, "--seed", options.seed]
    _run("train-baseline", "lumbar_femur", "--data", data, "--out", both, *fitted)
    found = options.out / "evaluation"
    judged = ["--data", data, "--reference", REFERENCE]
    _run("evaluate", "--model", runs["regress"], *judged, "--out", found / "hierarchical")
    _run("evaluate", "--model", both, *judged, "--out", found / "lumbar_femur")
    _print(read_json(both / "cross_validation.json"), {p.name: read_json(p / "metrics.json") for p in found.iterdir()})


def _run(*words: Any) -> None:
    status = hierbmd([str(word) for word in words])
    if status:
        sys.exit(status)


def _print(folds: Mapping[str, Any], tests: Mapping[str, Any]) -> None:
    print("| system | on | BMD of | patients | MAE, g/cm2 | mean predictor's MAE | r |")
    print("|---|---|---|---|---|---|---|")
    for site in ("lumbar", "femur"):
        one = folds[site]
        mean, model = one["mean_predictor"]["mae_g_cm2"], one["model"]
        figures = [_said(model["mae_g_cm2"]), _said(mean), _said(model["pearson_r"])]
        print(f"| lumbar_femur | {folds['folds']} folds | {site} | {one['n_patients']} | {' | '.join(figures)} |")
    for name, metrics in sorted(tests.items()):
        model, mean = metrics["agreement"]["model"], metrics["agreement"]["mean_predictor"]
        figures = [_said(model["mae_g_cm2"]), _said(mean["mae_g_cm2"]), _said(model["pearson_r"])]
        print(f"| {name} | test | lumbar | {metrics['n_subjects']} | {' | '.join(figures)} |")


def _said(figure: Mapping[str, Any]) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return (
        figure["reason"] if value is None else f"{value:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
    )


if __name__ == "__main__":
    main()
