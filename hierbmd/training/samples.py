"""Sample images as a stage learns: radiograph, prediction and truth of a few validation patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from hierbmd.io.atomic import atomic_path
from hierbmd.models.regressor import BmdNet
from hierbmd.training.data import Batch, bone_images
from hierbmd.training.stage import StageModule

_SHOWN = 4


class Samples(Callback):
    """Writes `samples/epoch_NNNN.png` every `every` epochs and at the end, from the first validation batch."""

    def __init__(self, out: Path, every: int) -> None:
        self.folder, self.every = out / "samples", every
        self.batch: Batch | None = None

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        """Keep the first batch."""
        self.batch = self.batch or batch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, when it is time."""
        epoch = trainer.current_epoch + 1
        shows = not isinstance(pl_module.network, BmdNet) or pl_module.network.image
        due = epoch == trainer.max_epochs or (self.every > 0 and epoch % self.every == 0)
        shows = shows and pl_module.stage != "pretrain"
        if shows and due and self.batch is not None and trainer.is_global_zero:
            self._draw(pl_module, self.batch, self.folder / f"epoch_{epoch:04d}.png")

    def _draw(self, module: LightningModule, batch: Batch, path: Path) -> None:
        assert isinstance(module, StageModule)
        network = module.network
        density = network.density if isinstance(network, BmdNet) else network
        training = module.training
        module.eval()
        with torch.no_grad():
            output = density(batch["radiograph"][:_SHOWN].to(module.device))
        module.train(training)
        target = bone_images(batch) if len(density.structures) > 1 else batch["region"]
        rows = zip(batch["radiograph"][:_SHOWN], output.areal, target[:_SHOWN], strict=True)
        draw_samples(path, [(r[0].cpu().numpy(), p.cpu().numpy(), t.cpu().numpy()) for r, p, t in rows])


def draw_samples(path: Path, rows: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> None:
    """Draw a row for each (radiograph (H, W), predicted (C, H, W), true (C, H, W)), densities on one scale in g/cm2."""
    from matplotlib.figure import Figure

    columns = 1 + 2 * len(rows[0][1])
    height_in = 1.7 * rows[0][0].shape[0] / rows[0][0].shape[1]
    figure = Figure(figsize=(2.0 * columns, height_in * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    top = max(float(np.max(true)) for _, _, true in rows) or 1.0
    for line, (radiograph, predicted, true) in zip(axes, rows, strict=True):
        line[0].imshow(radiograph, cmap="gray")
        for i, (image, title) in enumerate(
            [(p, "predicted") for p in predicted] + [(t, "CT projection") for t in true], start=1
        ):
            shown = line[i].imshow(image, cmap="inferno", vmin=0.0, vmax=top)
            line[i].set_title(title, fontsize=8)
        for axis in line:
            axis.set_axis_off()
    figure.colorbar(shown, ax=axes, label="areal density, g/cm2", shrink=0.6)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80)
