"""Lumbar spine and femur from one lumbar radiograph: one network, a BMD and a category of both, by folds of patients.

The published system (University of Tokyo, J Orthop Res 2025; METHOD section 2) from its description: AP lumbar
radiographs, five-fold cross-validation, outputs of regression and of category for the lumbar spine and for the femur,
which is not in the image.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.baselines.lumbar.options import NAME, REGION, Options
from hierbmd.baselines.registry import StudyPart, silent
from hierbmd.data.card import BASELINE, ModelCard, require_matching
from hierbmd.errors import BadConfig

if TYPE_CHECKING:
    from hierbmd.baselines.registry import Progress
    from hierbmd.predict import Predictor


def fit(data: Path, out: Path, options: Options, *, progress: Progress = silent) -> ModelCard:
    """Train and cross-validate on the train and val patients of a data set of L1-L4; a stopped run goes on.

    `out` receives weights.safetensors and card.json (the mean of the folds' networks), cross_validation.csv, .json and
    .png, and folds/N with each fold's curves. Errors: BadManifest (another region, too few patients, no femur's BMD),
    SplitLeak, Uncalibrated, SuspectedUnit, BadConfig, OutputUnwritable, TrainingDiverged.
    """
    from hierbmd.baselines.lumbar.folds import fit_folds

    return fit_folds(Path(data), Path(out), options, progress)


def require(region: str) -> None:
    """BadConfig for a region other than L1-L4."""
    if region != REGION:
        raise BadConfig(f"reads lumbar radiographs, not the {region}", where=NAME, mend=f"--region {REGION}")


def load(folder: Path) -> Predictor:
    """The model in a folder; UntrustedWeights, WrongWeights (another baseline, tensors that do not fit)."""
    from hierbmd.baselines.lumbar.predictor import LumbarFemurPredictor, networks_of
    from hierbmd.io.weights import read_weights

    tensors, card = read_weights(folder)
    require_matching(card, where=folder, stage=BASELINE, baseline=NAME)
    return LumbarFemurPredictor(card, networks_of(card, tensors))


def study_options(part: StudyPart) -> Options:
    """The options that a study trains it with."""
    options = Options(seed=part.seed)
    return replace(options, loop=replace(options.loop, epochs=4)) if part.quick else options
