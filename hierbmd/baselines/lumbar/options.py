"""What a user may set of the lumbar-and-femur system; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hierbmd.data.density import ReferenceName
from hierbmd.errors import BadConfig
from hierbmd.options import option, part
from hierbmd.training.options import LoopOptions

Backbone = Literal["UNet", "HRNet", "MedNeXt"]

NAME = "lumbar_femur"
REGION = "lumbar_l1_l4"
"""What its radiographs are prepared as."""

SITES = ("lumbar", "femur")
"""The outputs in their order: L1-L4, in the image, and the total hip, out of it."""

SETTINGS: dict[Backbone, dict[str, Any]] = {
    "UNet": {"widths": [12, 24, 48, 96], "stem_stride": 2, "norm": "batch"},
    "HRNet": {"width": 18, "modules": [1, 1, 4, 3], "blocks": 4, "stem_stride": 4, "norm": "batch"},
    "MedNeXt": {"width": 32, "blocks": [2, 2, 2, 2, 2], "stem_stride": 2, "expansion": 4, "kernel": 7},
}
"""The size of each backbone: the U-Net's that of configs/decompose.yaml, for a CPU; the others want a GPU."""


_LOOP = ("epochs", "learning_rate", "weight_decay", "warmup", "clip_norm", "precision", "accelerator")


def _loop() -> LoopOptions:
    """A fold has nobody to stop early by, so its last epoch counts, whatever the patience."""
    return LoopOptions(epochs=60, weight_decay=1e-2, patience=0)


@dataclass(frozen=True)
class Options:
    """BMD and category of L1-L4 and of the femur from one lumbar radiograph, cross-validated by patient.

    The femur's BMD of a patient is the column `femur_column` of the manifest, else that of their pairs in the data set
    `hips`, else the total hip in the CT of the lumbar pair itself (mean of the sides that there are). Who has none
    teaches and tests the lumbar outputs alone.
    """

    hips: Path | None = option("data set of the same patients' hips (prepare --region total_hip)", None)
    femur_column: str = option("the manifest's column with the femur's BMD in g/cm2", "femur_bmd_g_cm2")
    folds: int = option("folds of the train and val patients; the model is the mean of the folds' networks", 5)
    seed: int = option("seed of folds, weights and augmentation", 0)
    backbone: Backbone = option("encoder, as of the stages", "UNet")
    lumbar_reference: ReferenceName = option("young-adult reference of L1-L4", "nhanes-female-lumbar-l1-l4")
    femur_reference: ReferenceName = option("young-adult reference of the total hip", "nhanes3-female-total-hip")
    bootstrap_samples: int = option("resamples of the patients for intervals", 2000)
    batch_size: int = option("radiographs in a step", 8)
    augment: bool = option("vary the training images", True)
    category_weight: float = option("weight of the categories' cross-entropy beside the values' loss", 0.2)
    loop: LoopOptions = field(default_factory=_loop, metadata=part(only=_LOOP))

    def __post_init__(self) -> None:
        if self.folds < 2 or self.seed < 0 or self.bootstrap_samples < 1 or self.batch_size < 2:
            raise BadConfig("out of range", where="folds and batch_size 2 or more, seed 0 or more", mend="give others")
        if self.category_weight < 0:
            raise BadConfig("out of range", where=f"category_weight {self.category_weight:g}", mend="0 or more")
