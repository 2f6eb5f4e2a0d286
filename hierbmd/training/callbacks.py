"""What happens around the steps: seeds, the guard against divergence, curves, and progress."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from hierbmd.errors import TrainingDiverged
from hierbmd.io.atomic import atomic_path, write_json

CURVES_FILE = "curves.csv"
DIVERGED_FILE = "diverged.json"


class StepSeed(Callback):
    """Seeds torch before each step from (seed, step), so that dropout draws alike after a resume.

    Not once an epoch: a loader that starts draws a number of its own, and when it starts differs after a resume.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed."""
        torch.manual_seed((self.seed * 1_000_003 + trainer.global_step) % 2**63)


class DivergenceGuard(Callback):
    """Stops at the first loss or gradient that is not finite, before it reaches the weights.

    TrainingDiverged; `diverged.json` names the epoch, the step and the pairs of the batch, and the checkpoint of the
    epoch before stays.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.pair_ids: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember whose pairs these are."""
        self.pair_ids = [str(name) for name in batch["pair_id"]]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the loss."""
        if not torch.isfinite(loss):
            self._stop(trainer, "the loss is not finite")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the gradient's norm."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self._stop(trainer, "the gradient is not finite")

    def _stop(self, trainer: Trainer, what: str) -> None:
        found = {"epoch": trainer.current_epoch, "step": trainer.global_step, "what": what, "pair_ids": self.pair_ids}
        write_json(self.out / DIVERGED_FILE, found)
        raise TrainingDiverged(
            f"{what} in epoch {trainer.current_epoch}",
            where=self.out / DIVERGED_FILE,
            mend="look at these pairs, or lower the learning rate; the last good checkpoint is kept",
        )


class Curves(Callback):
    """Appends each epoch's losses to `curves.csv`; a resumed run goes on below the epochs that it keeps."""

    def __init__(self, out: Path) -> None:
        self.path = out / CURVES_FILE
        self.rows: list[dict[str, str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the rows of the epochs before this one."""
        if self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as stream:
                self.rows = [r for r in csv.DictReader(stream) if int(r["epoch"]) < trainer.current_epoch]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table with this epoch's row."""
        if not trainer.is_global_zero:
            return
        row = {"epoch": str(trainer.current_epoch), "step": str(trainer.global_step)}
        row["learning_rate"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}"
        row |= {name: f"{float(value):.6g}" for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append(row)
        names = list(dict.fromkeys(name for r in self.rows for name in r))
        with atomic_path(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


class ProgressBar(Callback):
    """A bar on stderr: steps done, the loss, and the time that is left."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True))
        self.label, self.task = label, self.progress.add_task(label, loss="", total=None)
        self.loss, self.shown_at_s = math.nan, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar where training goes on."""
        self.progress.update(self.task, total=trainer.estimated_stepping_batches, completed=trainer.global_step)
        self.progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Move the bar, a few times a second at most."""
        now_s = time.monotonic()
        if now_s - self.shown_at_s > 0.25:
            self.shown_at_s = now_s
            self.progress.update(self.task, completed=trainer.global_step, loss=f"loss {float(outputs['loss']):.4g}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fill the bar and put it away."""
        self.progress.update(self.task, completed=trainer.global_step)
        self.progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the bar away, so that the reason can be read."""
        self.progress.stop()
