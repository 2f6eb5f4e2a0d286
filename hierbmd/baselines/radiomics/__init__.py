"""Deep-radiomics: texture, deep and clinical features, LASSO selection, an MLP; seven models of the three kinds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.baselines.radiomics.options import NAME, Options
from hierbmd.baselines.registry import Progress, StudyPart, silent
from hierbmd.data.density import REGION_REFERENCES
from hierbmd.errors import BadConfig

if TYPE_CHECKING:
    from hierbmd.data.card import ModelCard
    from hierbmd.predict import Predictor

__all__ = ["NAME", "Options", "fit", "load", "require", "study_options"]


def fit(data: Path, out: Path, options: Options, *, progress: Progress = silent) -> ModelCard:
    """Train the seven models on a data set; see `hierbmd.baselines.radiomics.fitting.fit`."""
    from hierbmd.baselines.radiomics import fitting

    return fitting.fit(data, out, options, progress=progress)


def require(region: str) -> None:
    """MissingExtra without mirp; BadConfig for a region without a young-adult reference, so without a condition."""
    from hierbmd.baselines.radiomics.texture import require_mirp

    if region not in REGION_REFERENCES:
        known = ", ".join(REGION_REFERENCES)
        raise BadConfig(f"no young-adult reference of the {region}", where=NAME, mend=f"known: {known}")
    require_mirp()


def load(folder: Path) -> Predictor:
    """The model in a folder."""
    from hierbmd.baselines.radiomics.predictor import load

    return load(folder)


def study_options(part: StudyPart) -> Options:
    """In a study the encoder is that of the hierarchy's second stage, trained on the same patients."""
    from hierbmd.io.dataset import read_dataset

    return Options(
        reference=REGION_REFERENCES[read_dataset(part.data).card.region],
        encoder=part.runs["synthesize"],
        folds=2 if part.quick else Options.folds,
        inner_folds=2 if part.quick else Options.inner_folds,
        seed=part.seed,
        workers=1,
    )
