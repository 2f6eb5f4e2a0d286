"""Checkpoints of one's own run: written whole or not at all, read as plain tensors and numbers only."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from hierbmd.errors import UntrustedWeights
from hierbmd.io.atomic import atomic_path

FOLDER = "checkpoints"
LAST = "last.ckpt"
BEST = "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old file, flushes to the disk, then renames: a kill at any moment leaves a whole checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint; OutputUnwritable when the folder cannot be written."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Load a checkpoint of one's own run, never unpickling code; UntrustedWeights when it is anything else."""
        try:
            return dict(super().load_checkpoint(path, map_location=lambda storage, _: storage, weights_only=True))
        except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise UntrustedWeights(
                f"not a checkpoint that a run wrote ({reason})", where=path, mend="remove it to begin the run again"
            ) from None


def epoch_end_checkpoint(out: Path) -> ModelCheckpoint:
    """Keep the state at the end of every epoch: where a resumed run goes on."""
    return ModelCheckpoint(
        dirpath=out / FOLDER,
        filename=Path(LAST).stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def stop_early(out: Path, watched: str, patience: int) -> list[Callback]:
    """Stop when `watched` has not fallen for `patience` validations, and keep the state in which it was lowest."""
    best = ModelCheckpoint(
        dirpath=out / FOLDER,
        filename=Path(BEST).stem,
        monitor=watched,
        save_weights_only=True,
        enable_version_counter=False,
    )
    return [EarlyStopping(watched, patience=patience), best]


def load_best(out: Path, module: LightningModule) -> None:
    """Give a module the weights that early stopping found best; what a module does not keep in a checkpoint stays."""
    state = torch.load(out / FOLDER / BEST, map_location=module.device, weights_only=True)
    module.load_state_dict(state["state_dict"], strict=module.strict_loading)


def last_checkpoint(out: Path) -> Path | None:
    """The checkpoint to go on from, if there is one."""
    path = out / FOLDER / LAST
    return path if path.is_file() else None
