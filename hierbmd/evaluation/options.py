"""How a model is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hierbmd.data.density import ReferenceChoice
from hierbmd.errors import BadConfig
from hierbmd.options import option

SplitName = Literal["train", "val", "test"]
SweepName = Literal["pose", "compression", "noise", "resolution", "exposure", "uncalibrated"]


@dataclass(frozen=True)
class EvaluationOptions:
    """Which patients, against which young-adult reference, and how the intervals are drawn."""

    split: SplitName = option("the split to evaluate on; test holds the patients never seen", "test")
    reference: ReferenceChoice = option(
        "young-adult reference of the T-scores; auto: the female one of the data set's region, if there is one", "auto"
    )
    bootstrap_samples: int = option("how often patients are drawn again for the intervals", 2000)
    seed: int = option("seed of the patient bootstrap", 0)
    shown: int = option("how many patients the report shows, spread evenly over the reference BMD", 4)

    def __post_init__(self) -> None:
        if self.bootstrap_samples < 100 or self.shown < 0:
            raise BadConfig(
                "out of range",
                where=f"bootstrap_samples {self.bootstrap_samples}, shown {self.shown}",
                mend="at least 100 bootstrap samples and 0 shown",
            )
