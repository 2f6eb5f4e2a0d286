"""Deep-radiomics: texture, deep and clinical features, LASSO selection, an MLP; seven models of the three kinds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.baselines.radiomics.options import NAME, Options
from hierbmd.baselines.registry import Progress, StudyPart, silent

if TYPE_CHECKING:
    from hierbmd.data.card import ModelCard
    from hierbmd.predict import Predictor

__all__ = ["NAME", "Options", "fit", "load", "require", "study_options"]


def fit(data: Path, out: Path, options: Options, *, progress: Progress = silent) -> ModelCard:
    """Train the seven models on a data set; see `hierbmd.baselines.radiomics.fitting.fit`."""
    from hierbmd.baselines.radiomics import fitting

    return fitting.fit(data, out, options, progress=progress)


def require() -> None:
    """MissingExtra without mirp."""
    from hierbmd.baselines.radiomics.texture import require_mirp

    require_mirp()


def load(folder: Path) -> Predictor:
    """The model in a folder."""
    from hierbmd.baselines.radiomics.predictor import load

    return load(folder)


def study_options(part: StudyPart) -> Options:
    """In a study the encoder is that of the hierarchy's second stage, trained on the same patients."""
    return Options(
        encoder=part.runs["synthesize"],
        folds=2 if part.quick else Options.folds,
        inner_folds=2 if part.quick else Options.inner_folds,
        seed=part.seed,
        workers=1,
    )
