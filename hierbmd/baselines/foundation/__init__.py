"""Foundation models: a pretrained vision backbone, a linear probe, LoRA or all of it trained, class and BMD (METHOD 2).

Light: what computes is imported when it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.baselines.registry import Progress, StudyPart, silent
from hierbmd.data.density import ReferenceChoice
from hierbmd.errors import BadConfig
from hierbmd.options import option, part
from hierbmd.training.options import LoopOptions

if TYPE_CHECKING:
    from hierbmd.data.card import ModelCard
    from hierbmd.predict import Predictor

NAME = "foundation"
LEARNING_RATES = {"linear": 1e-2, "lora": 2e-3, "full": 1e-4}
"""AdamW's rate by strategy: the fewer numbers learn, the higher."""

_LOOP = ("epochs", "weight_decay", "warmup", "patience", "clip_norm", "precision", "accelerator")


@dataclass(frozen=True, kw_only=True)
class Options:
    """A vision backbone with a linear probe, LoRA or full fine-tuning: classes by T-score, and BMD."""

    backbone: str = option(
        "a model's folder, a preset (dinov2, clip, rad-dino, xray-siglip), a hub id, or random-dinov2: a small one of "
        "random weights, not pretrained",
        "random-dinov2",
    )
    revision: str = option("the hub's commit or tag; the newest without it", "")
    strategy: Literal["linear", "lora", "full"] = option("what learns beside the head", "lora")
    reference: ReferenceChoice = option(
        "young-adult reference of the classes' T-scores; auto: the female one of the data set's region, if any", "auto"
    )
    aspect: Literal["pad", "stretch", "crop"] = option(
        "a half in the backbone's frame: whole with air beside it, whole but stretched, or its middle", "pad"
    )
    learning_rate: float | None = option("AdamW's; by default 0.01 for linear, 0.002 for lora, 0.0001 for full", None)
    class_weight: float = option("weight of the classes' loss", 1.0)
    bmd_weight: float = option("weight of the BMD's loss", 1.0)
    balanced: bool = option("each class counts alike, however many patients it has", True)
    augment: bool = option("vary the training images; a linear probe never does, its features are kept", True)
    lora_rank: int = option("rank of the adapters", 8)
    lora_alpha: int = option("scale of the adapters times their rank", 16)
    lora_dropout: float = option("dropout before the adapters", 0.0)
    lora_targets: tuple[str, ...] = option("names of the layers to adapt; queries and values without it", ())
    batch_size: int = option("images a step", 16)
    seed: int = option("seed of the weights that are drawn, the order and the augmentation", 0)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=30, patience=10), metadata=part(only=_LOOP))

    def __post_init__(self) -> None:
        weights = (self.class_weight, self.bmd_weight)
        if min(weights) < 0 or max(weights) <= 0 or self.batch_size < 1 or self.lora_rank < 1:
            raise BadConfig(
                "out of range",
                where=f"class_weight, bmd_weight {weights}, batch_size {self.batch_size}, lora_rank {self.lora_rank}",
                mend="weights of 0 or more, not both 0; a batch and a rank of 1 or more",
            )

    @property
    def loop_at_its_rate(self) -> LoopOptions:
        """The loop at the learning rate of the strategy, or the one that is given."""
        return replace(self.loop, learning_rate=self.learning_rate or LEARNING_RATES[self.strategy])


def fit(data: Path, out: Path, options: Options, *, progress: Progress = silent) -> ModelCard:
    """Train on the train split of a data set, early-stopped on its val split, or go on with the run in `out`.

    Errors: MissingExtra, BadConfig (backbone), UntrustedWeights and WrongWeights (its files), BadManifest and SplitLeak
    (data), TrainingDiverged, OutputUnwritable.
    """
    from hierbmd.baselines.foundation.learn import fit_foundation

    return fit_foundation(data, out, options, progress=progress)


def require(region: str) -> None:
    """MissingExtra without transformers, peft and captum; any region will do."""
    from hierbmd.baselines.foundation.base import require_extra

    require_extra()


def load(folder: Path) -> Predictor:
    """The trained model in a folder, adapters and head on their base model, on the CPU.

    Errors: MissingExtra, UntrustedWeights, WrongWeights (another kind of model, or another base model).
    """
    from hierbmd.baselines.foundation.predictor import load_foundation

    return load_foundation(folder)


def study_options(part: StudyPart) -> Options:
    """What a study trains: LoRA on the small random backbone, for no weights come with the package."""
    options = Options(seed=part.seed)
    return replace(options, loop=replace(options.loop, epochs=1)) if part.quick else options
