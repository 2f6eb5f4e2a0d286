"""`hierbmd foundation-grid`: several vision backbones with several strategies, trained and judged alike, one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hierbmd.baselines.foundation import Options as Training
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.options import option, part

PRESETS = ("dinov2", "clip", "rad-dino", "xray-siglip")
RANDOM = ("random-dinov2", "random-clip", "random-vit", "random-dinov2-registers")
_TRAINING = ("aspect", "learning_rate", "class_weight", "bmd_weight", "balanced", "augment", "batch_size")
_LORA = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
_LOOP = ("loop.epochs", "loop.patience", "loop.precision", "loop.accelerator")


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Foundation models: backbones x strategies on one data set, with accuracy and whether each looks at bone."""

    data: Path = option("the data set's folder, from hierbmd prepare")
    out: Path = option("folder for grid.csv, grid.json, grid.png, and every run in BACKBONE/STRATEGY")
    backbones: tuple[str, ...] = option("presets, hub ids, folders or NAME=FOLDER", PRESETS)
    random: bool = option(
        "small models of random weights in place of --backbones: shows that all works, and nothing about accuracy",
        False,
    )
    strategies: tuple[Literal["linear", "lora", "full"], ...] = option(
        "what learns beside the head", ("linear", "lora", "full")
    )
    change: Literal["replace", "blur"] = option("what is done to bone, and to as much outside it", "replace")
    maps: int = option("patients whose explanation maps are made", 24)
    steps: int = option("steps of the integrated gradients", 16)
    training: Training = field(default_factory=Training, metadata=part(only=(*_TRAINING, *_LORA, *_LOOP)))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maps < 0 or self.steps < 2:
            raise BadConfig("out of range", where=f"maps {self.maps}, steps {self.steps}", mend="0 maps, 2 steps")


def main(argv: list[str]) -> int:
    """Run `hierbmd foundation-grid`; returns the exit status."""
    options = parse("foundation-grid", Options, argv)
    from dataclasses import fields, replace

    from hierbmd.baselines.foundation.figures import ExplainOptions
    from hierbmd.baselines.foundation.grid import TABLE_FILE, Grid, run_grid
    from hierbmd.cli._progress import progress

    evaluation = EvaluationOptions(**{f.name: getattr(options, f.name) for f in fields(EvaluationOptions)})
    grid = Grid(
        RANDOM if options.random else options.backbones,
        options.strategies,
        replace(options.training, seed=options.seed, reference=options.reference),
        evaluation,
        ExplainOptions(options.change, options.maps, options.steps),
    )
    run_grid(options.data, options.out, grid, progress=progress)
    print(options.out / TABLE_FILE)
    return 0
