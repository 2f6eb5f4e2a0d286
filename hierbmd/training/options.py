"""How a training loop runs; light, for the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass

from hierbmd.errors import BadConfig
from hierbmd.options import option


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast a network learns: AdamW, a warm-up and a cosine, the best of the validations kept."""

    epochs: int = option("passes over the training images, at most", 20)
    learning_rate: float = option("AdamW's learning rate after the warm-up", 1e-3)
    weight_decay: float = option("AdamW's weight decay", 1e-4)
    warmup: float = option("share of all steps in which the rate rises, 0 to 1", 0.1)
    patience: int = option("stop after so many epochs in which validation was no better; 0 never", 5)
    clip_norm: float = option("largest norm of the gradient", 1.0)
    precision: str = option("Lightning's name of the number format: 32-true, bf16-mixed", "32-true")
    accelerator: str = option("auto, cpu or gpu", "auto")

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.patience < 0 or not (self.learning_rate > 0 and 0 <= self.warmup <= 1):
            raise BadConfig(
                "out of range",
                where=f"epochs {self.epochs}, patience {self.patience}, learning_rate {self.learning_rate:g}",
                mend="at least 1 epoch, patience 0 or more, a rate above 0",
            )
