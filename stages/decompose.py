"""Stage 1: a radiograph is decomposed into the areal-density image of each bone: hemipelvis and femur, or L1 to L4."""

from __future__ import annotations

from typing import ClassVar

from hierbmd.stages.image_stage import ImageStage
from torch import Tensor

from hierbmd.data.card import Stage
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.generator import Generator
from hierbmd.training.data import Batch
from hierbmd.training.stage import Begin


class Decompose(ImageStage):
    """Radiograph to whole-bone virtual X-rays, one channel a bone (METHOD section 1, stage 1)."""

    stage: ClassVar[Stage] = "decompose"
    starts_from: ClassVar[tuple[Stage, ...]] = ("pretrain",)
    needs_start: ClassVar[bool] = False
    watched: ClassVar[str] = "val/l1"

    def build(self, begin: Begin, generator: Generator) -> DensityNet:
        """A density network with one channel a bone."""
        return DensityNet(generator, begin.data.bones)

    def target(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The bones' areal density, (B, bones, H, W) in g/cm2."""
        return batch["bones"], None

    def bmd_of(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput] | None:
        """None: whole bones are no density-measuring region."""
        return None
