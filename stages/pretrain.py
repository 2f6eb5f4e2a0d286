"""Before stage 1: the generator learns radiographs by themselves, from patches to be filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional

from hierbmd.data.card import Stage
from hierbmd.errors import BadConfig
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.generator import Generator
from hierbmd.options import option
from hierbmd.training.data import Batch
from hierbmd.training.stage import Begin, Schedule, StageModule


@dataclass(frozen=True)
class Masking:
    """What is hidden of a radiograph."""

    share: float = option("share of the patches that are hidden", 0.5)
    patch_px: int = option("side of a patch, pixels of the half frame", 16)

    def __post_init__(self) -> None:
        if not (0.0 < self.share < 1.0 and self.patch_px > 0):
            raise BadConfig("masking out of range", where=f"share {self.share}, patch_px {self.patch_px}")

    def hidden(self, radiograph: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Where a batch (B, 1, H, W) is hidden, bool of its shape, whole patches drawn anew for each image."""
        height, width = radiograph.shape[-2:]
        grid = (len(radiograph), 1, -(-height // self.patch_px), -(-width // self.patch_px))
        drawn = torch.rand(grid, generator=generator).to(radiograph.device) < self.share
        return functional.interpolate(drawn.float(), scale_factor=float(self.patch_px))[..., :height, :width] > 0.5


class Pretrain(StageModule):
    """Radiograph with hidden patches to the whole radiograph, in its normalised grey values; no density is needed.

    Self-supervised pretraining by masked images (SimMIM, Xie et al., CVPR 2022, arXiv 2111.09886: hidden patches are
    set to one value, and the L1 loss counts in them alone). It learns from the data set's training radiographs and from
    the folder `radiographs`, which need no CT. Stage 1 takes the generator over with `--from`.

    Args:
        generator: the network whose generator stage 1 shall start from.
        masking: what is hidden.
        radiographs: folder of radiographs (DICOM) without a CT; none of a held-out patient's may be among them.
        optimizer: made over all parameters.
        schedule: of the learning rate.
        channels_last: memory layout; faster on most hardware.
    """

    stage: ClassVar[Stage] = "pretrain"
    starts_from: ClassVar[tuple[Stage, ...]] = ()
    watched: ClassVar[str] = "val/l1"

    def __init__(
        self,
        generator: Generator,
        masking: Masking = Masking(),
        radiographs: str = "",
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
        channels_last: bool = True,
    ) -> None:
        super().__init__(optimizer, schedule, channels_last)
        self.fresh_generator: Generator | None = generator
        self.masking, self.radiographs = masking, radiographs

    def begin(self, begin: Begin) -> None:
        """One channel, the radiograph itself; BadConfig with a start, for there is no stage before."""
        if begin.start is not None or self.fresh_generator is None:
            raise BadConfig("pretrain starts from no run", mend="leave --from out")
        self.network = DensityNet(self.fresh_generator, ("radiograph",))
        self.fresh_generator = None

    def bmd_of(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput | None] | None:
        """None: no density was seen."""
        return None

    def _loss(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Mean absolute difference over the hidden pixels."""
        radiograph = batch["radiograph"]
        hidden = self.masking.hidden(radiograph, generator)
        filled = self.network(radiograph.masked_fill(hidden, 0.5)).areal
        return ((filled - radiograph).abs() * hidden).sum() / hidden.sum().clamp_min(1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss over what is hidden."""
        loss = self._loss(batch)
        self.report("train", {"l1": loss, "loss": loss}, batch)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on patients held out, hidden alike in every epoch."""
        self.report("val", {"l1": self._loss(batch, torch.Generator().manual_seed(batch_idx))}, batch)
