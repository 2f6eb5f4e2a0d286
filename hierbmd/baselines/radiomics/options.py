"""How deep-radiomics is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hierbmd.data.density import ReferenceName
from hierbmd.errors import BadConfig
from hierbmd.options import option

NAME = "deep_radiomics"

ModelName = Literal["C", "T", "D", "TC", "DC", "DT", "DTC"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Texture (T), deep (D) and clinical (C) features, LASSO and an MLP: all seven models of the three in one run."""

    encoder: Path = option("a run of synthesize or regress: its encoder gives the deep features, its image the region")
    external: Path | None = option("a data set of other patients: every model reads all of it", None)
    model: ModelName = option("which of the seven reads for predict and evaluate", "DTC")
    region: Literal["predicted", "registered"] = option(
        "the region of the training images' features: the encoder's, as on a new radiograph, or the CT's",
        "predicted",
    )
    condition: Literal["osteoporosis", "low_bone_mass_or_osteoporosis"] = option(
        "what is screened for, by the reference BMD's T-score", "osteoporosis"
    )
    reference: ReferenceName = option("young-adult reference of the T-scores", "nhanes3-female-total-hip")
    select_by: Literal["bmd", "condition"] = option(
        "what the LASSO explains: BMD, or the condition as published", "bmd"
    )
    sensitivity: float = option("the sensitivity that the threshold of 'recommend DXA' is chosen for", 0.9)
    bins: int = option("grey levels of the textures, a fixed number within the region", 16)
    folds: int = option("folds of the training patients for the internal figures", 5)
    inner_folds: int = option("folds within a fold's training patients, for its threshold", 3)
    hidden: int = option("hidden units of the MLP", 16)
    weight_decay: float = option("L2 penalty of the MLP", 1.0)
    bootstrap_samples: int = option("how often patients are drawn again for the intervals", 2000)
    seed: int = option("seed of folds, networks and intervals", 0)
    workers: int = option("processes that extract features; 0 takes every CPU", 1)

    def __post_init__(self) -> None:
        low = min(self.folds, self.inner_folds)
        if low < 2 or self.bins < 2 or self.hidden < 1 or self.weight_decay < 0 or self.workers < 0 or self.seed < 0:
            raise BadConfig(
                "out of range",
                where=f"folds {self.folds}, inner_folds {self.inner_folds}, bins {self.bins}, hidden {self.hidden}, "
                f"weight_decay {self.weight_decay:g}, workers {self.workers}, seed {self.seed}",
                mend="2 folds and 2 bins or more, 1 hidden unit, nothing below 0",
            )
        if not 0 < self.sensitivity < 1:
            raise BadConfig("no sensitivity", where=f"{self.sensitivity:g}", mend="between 0 and 1, such as 0.9")
        if self.bootstrap_samples < 100:
            raise BadConfig("too few bootstrap samples", where=str(self.bootstrap_samples), mend="at least 100")
