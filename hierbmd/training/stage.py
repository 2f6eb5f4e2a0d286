"""What every stage is to the trainer: a network that begins from the stage before, an optimizer and a schedule."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from hierbmd.data.card import ModelCard, Stage
from hierbmd.data.pairs import DatasetCard
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.registry import NETWORK
from hierbmd.models.regressor import BmdNet
from hierbmd.options import option


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes: up linearly over the warm-up, then along a cosine to zero, or constant."""

    shape: Literal["cosine", "constant"] = option("after the warm-up", "cosine")
    warmup: float = option("share of all steps, 0 to 1", 0.1)

    def factor(self, step: int, total: int) -> float:
        """The learning rate at a step over the optimizer's, in (0, 1]."""
        rising = max(1, round(self.warmup * total))
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, total - rising)
        return 1.0 if self.shape == "constant" else 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class Start:
    """The run that a stage starts from: its tensors and card."""

    tensors: Mapping[str, Tensor]
    card: ModelCard


@dataclass(frozen=True)
class Begin:
    """What a stage knows before its first step: the data set, the training patients' mean BMD (g/cm2), its start."""

    data: DatasetCard
    mean_bmd_g_cm2: float
    start: Start | None = None


class StageModule(LightningModule, abc.ABC):
    """A stage: `begin` builds `network`, steps return the loss, `tensors` is what is exported.

    `stage` is its name, `starts_from` the stages whose runs it may start from, `watched` the validation figure (the
    lower the better) that early stopping looks at, `radiographs` a folder of radiographs without a CT. One optimizer
    holds the network and, where there is one, the discriminator; Lightning's own loop does the rest (precision,
    accumulation, clipping, DDP).
    """

    stage: ClassVar[Stage]
    starts_from: ClassVar[tuple[Stage, ...]]
    watched: ClassVar[str]
    network: DensityNet | BmdNet
    radiographs: str = ""

    def __init__(self, optimizer: OptimizerCallable, schedule: Schedule, channels_last: bool) -> None:
        super().__init__()
        self.make_optimizer, self.schedule, self.channels_last = optimizer, schedule, channels_last

    @abc.abstractmethod
    def begin(self, begin: Begin) -> None:
        """Build the network, from the start's weights where there is one; BadConfig or WrongWeights when it cannot."""

    @abc.abstractmethod
    def bmd_of(self, radiograph: Tensor) -> tuple[Tensor, DensityOutput | None] | None:
        """Uncalibrated BMD (B,) in g/cm2 and the density output, if any; None for a stage without a BMD."""

    @property
    def structures(self) -> tuple[str, ...]:
        """The names of the density channels."""
        return (self.network.density if isinstance(self.network, BmdNet) else self.network).structures

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the export, by name."""
        return _named(NETWORK, self.network)

    def report(self, split: str, losses: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Log a batch's losses, to be averaged over the epoch, as "train/l1" or "val/l1"."""
        named = {f"{split}/{name}": value.detach() for name, value in losses.items()}
        together = self.trainer.world_size > 1
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(batch["pair_id"]), sync_dist=together)

    def configure_optimizers(self) -> Any:
        """The configured optimizer over everything trainable, with the schedule a step."""
        if self.channels_last:
            self.to(memory_format=torch.channels_last)
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        total = int(self.trainer.estimated_stepping_batches)
        rate = LambdaLR(optimizer, lambda step: self.schedule.factor(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}
