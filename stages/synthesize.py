"""Stage 2: a radiograph gives the areal-density image of the measured region alone, and BMD as the region's mean."""

from __future__ import annotations

from typing import ClassVar

from hierbmd.stages.image_stage import ImageStage
from torch import Tensor

from hierbmd.data.card import Stage
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.generator import Generator
from hierbmd.training.data import Batch
from hierbmd.training.stage import Begin


class Synthesize(ImageStage):
    """Radiograph to the proximal femur's virtual X-ray (METHOD section 1, stage 2).

    It starts from stage 1's generator and discriminator; the region's channel starts as the femur's, or as the sum of
    the vertebrae's.
    """

    stage: ClassVar[Stage] = "synthesize"
    starts_from: ClassVar[tuple[Stage, ...]] = ("decompose",)
    watched: ClassVar[str] = "val/region_mean"

    def build(self, begin: Begin, generator: Generator) -> DensityNet:
        """A density network with the region's channel and its mask."""
        return DensityNet(generator, (begin.data.region,), mask=True)

    def target(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The region's areal density (B, 1, H, W) in g/cm2 and its mask."""
        return batch["region"], batch["mask"]

    def bmd_of(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput] | None:
        """The mean over the region as the network sees it, not yet recalibrated."""
        output = self.network(radiograph)
        return output.region_mean, output
