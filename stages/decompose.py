"""Stage 1: a radiograph is decomposed into the areal-density image of each bone: hemipelvis and femur, or L1 to L4."""

from __future__ import annotations

from typing import ClassVar

from hierbmd.stages.image_stage import ImageStage
from torch import Tensor

from hierbmd.data.card import Stage
from hierbmd.errors import BadConfig
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.generator import Generator
from hierbmd.training.data import Batch, bone_images
from hierbmd.training.stage import Begin


class Decompose(ImageStage):
    """Radiograph to whole-bone virtual X-rays, one channel a bone (METHOD section 1, stage 1).

    Where the data set has further channels: regions of the hip learn as the bones do; of other structures, muscles
    among them, only the sums count (MSKdeX), and the adversary sees the bones alone.
    """

    stage: ClassVar[Stage] = "decompose"
    starts_from: ClassVar[tuple[Stage, ...]] = ("pretrain",)
    needs_start: ClassVar[bool] = False
    watched: ClassVar[str] = "val/l1"

    def build(self, begin: Begin, generator: Generator) -> DensityNet:
        """A density network with one channel a bone, region and structure; BadConfig when no loss teaches a sum."""
        data = begin.data
        if data.structures and self.weights.intensity_sum <= 0:
            raise BadConfig(
                f"nothing teaches {', '.join(data.structures)}",
                mend="a model.weights.intensity_sum above 0",
            )
        self.judged, self.aligned = len(data.bones), len(data.bones) + len(data.regions)
        return DensityNet(generator, (*data.bones, *data.regions, *data.structures))

    def target(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The areal density of bones and further channels, (B, C, H, W) in g/cm2."""
        return bone_images(batch), None

    def bmd_of(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput] | None:
        """None: whole bones are no density-measuring region."""
        return None
