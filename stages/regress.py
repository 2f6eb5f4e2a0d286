"""Stage 3: one BMD value from stage 2's encoder, with the density image beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from hierbmd.data.card import Stage
from hierbmd.errors import BadConfig
from hierbmd.models import losses
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.generator import Generator
from hierbmd.models.losses import LossWeights
from hierbmd.models.registry import build_network, load_network
from hierbmd.models.regressor import BmdNet
from hierbmd.options import option
from hierbmd.training.data import Batch
from hierbmd.training.stage import Begin, Schedule, StageModule


@dataclass(frozen=True)
class HeadOptions:
    """The regression head and the weight of its loss."""

    bmd_weight: float = option("weight of the value's loss, the absolute difference in g/cm2", 100.0)
    hidden: int = option("width of the head", 32)
    from_readout: bool = option("correct stage 2's readout; otherwise give the value by itself", True)
    from_region: bool = option("average the encoder's features over the measured region, too", True)
    freeze_generator: bool = option("train the head alone", False)
    freeze_norm: bool = option(
        "train with stage 2's normalisation statistics, as evaluation does; not from scratch", False
    )


class Regress(StageModule):
    """Radiograph to one BMD value, on the representation that stage 2 learned (METHOD section 1, stage 3).

    The image losses stay on beside the value's, so that the encoder goes on serving the density image that this stage
    carries along.

    Args:
        generator: only for a start from scratch (direct regression, for comparison).
        weights: of the image losses; at 0 the image may drift from what stage 2 learned. No adversary here.
        head: of the value's head and loss.
        optimizer: made over all parameters that train.
        schedule: of the learning rate.
        from_scratch: begin without stage 2 (for comparison).
        channels_last: memory layout; faster on most hardware.
    """

    stage: ClassVar[Stage] = "regress"
    starts_from: ClassVar[tuple[Stage, ...]] = ("synthesize",)
    watched: ClassVar[str] = "val/bmd"

    def __init__(
        self,
        generator: Generator | None = None,
        weights: LossWeights = LossWeights(),  # noqa: B008 (frozen)
        head: HeadOptions = HeadOptions(),
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
        from_scratch: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__(optimizer, schedule, channels_last)
        if head.freeze_norm and from_scratch:
            raise BadConfig(
                "no statistics to keep", where="head.freeze_norm", mend="it needs stage 2, so no from_scratch"
            )
        if weights.needs_discriminator:
            raise BadConfig("regress has no adversary", mend="set its adversarial and feature_matching weights to 0")
        self.fresh_generator, self.weights, self.head, self.from_scratch = generator, weights, head, from_scratch

    def begin(self, begin: Begin) -> None:
        """Put the head on stage 2's network, starting from its recalibrated readout."""
        density = self._density(begin)
        head = self.head
        # What was never taught is not shown: without a start and without an image loss there is no density image.
        image = begin.start is not None or self.weights.any or head.from_readout or head.from_region
        self.network = BmdNet(
            density,
            hidden=head.hidden,
            from_readout=head.from_readout,
            from_region=head.from_region,
            image=image,
            mean_g_cm2=begin.mean_bmd_g_cm2,
        )
        if not image:
            density.freeze_decoder()
        if head.from_readout and begin.start is not None and begin.start.card.readout is not None:
            readout = begin.start.card.readout
            self.network.set_readout(readout.slope, readout.intercept)
        if head.freeze_generator:
            density.requires_grad_(False)
        self.fresh_generator = None

    def _density(self, begin: Begin) -> DensityNet:
        if begin.start is not None:
            source = build_network(begin.start.card)
            load_network(source, begin.start.tensors)
            assert isinstance(source, DensityNet)
            return source
        if not self.from_scratch:
            raise BadConfig("regress starts from a synthesize run", mend="give --from RUN")
        if self.fresh_generator is None:
            raise BadConfig("no generator is configured", mend="set model.generator in the YAML")
        return DensityNet(self.fresh_generator, (begin.data.region,), mask=True)

    def bmd_of(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput | None]:
        """The network's value and density output."""
        value, output = self.network(radiograph)
        return value, output

    def on_train_epoch_start(self) -> None:
        """A frozen generator keeps its normalisation statistics, too."""
        assert isinstance(self.network, BmdNet)
        if self.head.freeze_generator:
            self.network.density.eval()
        if self.head.freeze_norm:
            for module in self.network.density.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The value's loss plus the weighted image losses."""
        value, output = self.bmd_of(batch["radiograph"])
        bmd = functional.l1_loss(value, batch["bmd"])
        total, parts = self.head.bmd_weight * bmd, {"bmd": bmd}
        if output is not None and not self.head.freeze_generator:
            images = losses.image_losses(
                self.weights, output, batch["region"], mask=batch["mask"], registered=batch["registered"]
            )
            parts |= images
            total = total + losses.weighted_sum(self.weights, images) if images else total
        self.report("train", {**parts, "loss": total}, batch)
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the value's and the image's error on patients held out."""
        value, output = self.bmd_of(batch["radiograph"])
        parts = {"bmd": functional.l1_loss(value, batch["bmd"])}
        if output is not None:
            parts["l1"] = losses.l1(output.areal, batch["region"])
        self.report("val", parts, batch)
