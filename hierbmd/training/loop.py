"""A training loop for any network with a loss: Lightning's, with the same seeds, guards and files as the stages have.

What is no stage of the hierarchy (the baselines) learns here, so that Lightning stays in this part of the house.
"""

from __future__ import annotations

import abc
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from hierbmd.errors import BadConfig
from hierbmd.training.callbacks import Curves, DivergenceGuard, StepSeed
from hierbmd.training.checkpoint import (
    AtomicCheckpointIO,
    epoch_end_checkpoint,
    last_checkpoint,
    load_best,
    stop_early,
)
from hierbmd.training.options import LoopOptions
from hierbmd.training.stage import Schedule

WATCHED = "val/loss"
"""The validation figure that early stopping looks at."""

_NOISE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 on torch 2.13
    "The '(train|val)_dataloader' does not have many workers",  # the pairs are in memory
    "The number of training batches .* is smaller than the logging interval",  # there is no logger
    "Checkpoint directory .* exists and is not empty",  # that is how a run resumes
    "Found .* module.s. in eval mode at the start of training",  # a frozen backbone keeps what it does
    "You defined a `validation_step` but have no `val_dataloader`",  # a fold of a cross-validation has nobody for it
)


class Learner(nn.Module, abc.ABC):
    """A network that knows its loss. What `requires_grad` is trained and kept in checkpoints; the rest stays."""

    @abc.abstractmethod
    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The named losses of a batch with "pair_id" in it; "loss" is their sum as it is minimised."""


def fit_learner(
    learner: Learner,
    loaders: tuple[DataLoader[Any], DataLoader[Any] | Sequence[Any]],
    out: Path,
    options: LoopOptions,
    *,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train a learner on (training, validation) batches, or go on with what `out` holds; ends with the best weights.

    `report` is told how many of how many steps are done. `out` receives curves.csv and checkpoints/. Errors: BadConfig
    (early stopping without validation images), TrainingDiverged, OutputUnwritable.
    """
    training, validation = loaders
    if options.patience and not len(validation):
        raise BadConfig("early stopping without validation patients", mend="a val split, or patience 0")
    module = _Module(learner, options)
    module.train()
    callbacks: list[Callback] = [StepSeed(seed), DivergenceGuard(out), Curves(out), epoch_end_checkpoint(out)]
    callbacks += stop_early(out, WATCHED, options.patience) if options.patience else []
    callbacks.append(_Reports(report))
    with quiet():
        trainer = Trainer(
            max_epochs=options.epochs,
            precision=options.precision,  # type: ignore[arg-type]
            accelerator=options.accelerator,
            devices=1,
            gradient_clip_val=options.clip_norm,
            deterministic="warn",  # the position codes' interpolation has no deterministic gradient on a GPU
            logger=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=out,
        )
        trainer.fit(module, training, validation or None, ckpt_path=last_checkpoint(out), weights_only=True)
    if options.patience:
        load_best(out, module)
    learner.cpu().eval()


def hush_loggers() -> None:
    """Only warnings from Lightning's loggers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning says of choices that are meant so; what it makes of SIGTERM is a KeyboardInterrupt."""
    hush_loggers()
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        except SystemExit:
            # Its answer to SIGTERM, with status 0, and to an interrupt: neither is a run that is done.
            raise KeyboardInterrupt("training was stopped") from None


class _Reports(Callback):
    """Tells the steps that are done."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report = report

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.report(trainer.global_step, int(trainer.estimated_stepping_batches))


class _Module(LightningModule):
    """A learner as Lightning wants it. Checkpoints hold what is trained and the buffers: a frozen base is on disk."""

    def __init__(self, learner: Learner, options: LoopOptions) -> None:
        super().__init__()
        self.learner, self.options = learner, options
        self.schedule = Schedule("cosine", options.warmup)
        self.strict_loading = False

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        losses = self.learner.losses(batch)
        self._report("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._report("val", self.learner.losses(batch), batch)

    def _report(self, split: str, losses: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        named = {f"{split}/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(batch["pair_id"]))

    def configure_optimizers(self) -> Any:
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.options.learning_rate, weight_decay=self.options.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        rate = LambdaLR(optimizer, lambda step: self.schedule.factor(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        kept = {name: tensor for name, tensor in checkpoint["state_dict"].items() if name not in frozen}
        checkpoint["state_dict"] = kept
