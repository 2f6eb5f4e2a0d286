"""A vision backbone with two outputs, class and BMD, of which a strategy says what learns."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from hierbmd.baselines.foundation.images import ImageProcessing
from hierbmd.data.density import DensityClass
from hierbmd.errors import BadConfig, WrongWeights

Strategy = Literal["linear", "lora", "full"]
"""What learns beside the head: nothing (a linear probe), low-rank adapters, or the whole backbone."""

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
CLASSES = (DensityClass.NORMAL, DensityClass.LOW_BONE_MASS, DensityClass.OSTEOPOROSIS)
"""The classes in the order of the logits."""

ADAPTER, BACKBONE, HEAD = "adapter.", "backbone.", "head."
_ATTENTION = ({"q_proj", "v_proj"}, {"query", "value"}, {"q", "v"}, {"qkv"})
"""What models call the projections that LoRA adapts by default: queries and values (Hu et al., ICLR 2022)."""


@dataclass(frozen=True)
class LoraSettings:
    """The low-rank adapters: their rank, the scale alpha / rank, dropout before them, and the layers that have them."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


class Head(nn.Module):
    """Two linear layers on features standardised by the training images' mean and SD: class logits and BMD in g/cm2."""

    feature_mean: Tensor
    feature_sd: Tensor
    bmd_mean: Tensor
    bmd_sd: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, len(CLASSES))
        self.bmd = nn.Linear(width, 1)
        for layer in (self.classes, self.bmd):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_sd", torch.ones(width))
        self.register_buffer("bmd_mean", torch.zeros(()))
        self.register_buffer("bmd_sd", torch.ones(()))

    def set_scales(self, features: Tensor, bmd_g_cm2: Tensor) -> None:
        """Take over the mean and SD of the training images' features (n, width) and BMD (n,)."""
        self.feature_mean.copy_(features.mean(0))
        self.feature_sd.copy_(features.std(0).clamp_min(1e-6))
        self.bmd_mean.copy_(bmd_g_cm2.mean())
        self.bmd_sd.copy_(bmd_g_cm2.std().clamp_min(1e-3))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, 3) and BMD (B,) in g/cm2 of features (B, width)."""
        scaled = (features - self.feature_mean) / self.feature_sd
        return self.classes(scaled), self.bmd_mean + self.bmd_sd * self.bmd(scaled)[:, 0]


class FoundationNet(nn.Module):
    """A backbone of transformers, prepared for a strategy, and the head.

    Features are the class token beside the mean of the patch tokens of the last layer (as DINOv2's linear evaluation),
    the mean alone where there is no class token, and the spatial mean of a convolutional network.
    """

    def __init__(
        self, backbone: nn.Module, processing: ImageProcessing, strategy: Strategy, lora: LoraSettings
    ) -> None:
        super().__init__()
        self.processing, self.strategy = processing, strategy
        config: Any = backbone.config
        self.patch_px = _edges_px(getattr(config, "patch_size", None))
        _freeze_unused(backbone, self)
        if strategy != "full":
            backbone.requires_grad_(False)
        self.lora = lora if strategy == "lora" else None
        self.backbone: Any = with_adapters(backbone, lora) if strategy == "lora" else backbone
        with torch.no_grad():
            self.head = Head(self.features(torch.zeros(1, 1, *processing.size_px)).shape[1])

    def features(self, images: Tensor) -> Tensor:
        """Features (B, width) of normalised radiographs (B, 1, H, W), 0 to 1."""
        tokens = self._run(self.backbone, images).last_hidden_state
        if tokens.ndim == 4:
            return torch.as_tensor(tokens.mean((-2, -1)))
        patches = tokens[:, tokens.shape[1] - self.patches :]
        mean = patches.mean(1)
        return torch.cat([tokens[:, 0], mean], dim=1) if tokens.shape[1] > self.patches else mean

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, 3) and BMD (B,) in g/cm2 of normalised radiographs (B, 1, H, W)."""
        logits, bmd = self.head(self.features(images))
        return logits, bmd

    def attentions(self, images: Tensor) -> tuple[Tensor, ...]:
        """Each layer's attention (B, heads, tokens, tokens); BadConfig for a backbone without attention."""
        with _eager(self.backbone):
            found = getattr(self._run(self.backbone, images, output_attentions=True), "attentions", None)
        if not found or found[0] is None or found[0].ndim != 4 or found[0].shape[-1] < self.patches:
            raise BadConfig("this backbone gives no attention over its patches", mend="use integrated gradients")
        return tuple(found)

    @property
    def patches(self) -> int:
        """How many patches the backbone sees of an image."""
        rows, columns = self.patch_grid
        return rows * columns

    @property
    def patch_grid(self) -> tuple[int, int]:
        """The patches in rows and columns."""
        rows, columns = self.processing.size_px
        return rows // self.patch_px[0], columns // self.patch_px[1]

    def trainable_parameters(self) -> int:
        """How many numbers learn."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def tensors(self) -> dict[str, Tensor]:
        """What is exported: the head, and the adapters alone or the whole backbone where that has learnt."""
        named = {HEAD + name: tensor for name, tensor in self.head.state_dict().items()}
        if self.strategy == "lora":
            from peft import get_peft_model_state_dict

            found = get_peft_model_state_dict(self.backbone, save_embedding_layers=False)
            return named | {ADAPTER + name: tensor for name, tensor in found.items()}
        if self.strategy == "full":
            return named | {BACKBONE + name: tensor for name, tensor in self.backbone.state_dict().items()}
        return named

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill in what `tensors` gave; WrongWeights when something is missing, left over or misshapen."""
        expected, found = self.tensors(), dict(tensors)
        wrong = sorted(expected.keys() ^ found.keys())
        wrong += sorted(name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape)
        if wrong:
            raise WrongWeights(f"the tensors do not fit the card's network: {', '.join(wrong[:3])}")
        self.head.load_state_dict(_of(tensors, HEAD))
        if self.strategy == "lora":
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.backbone, _of(tensors, ADAPTER))
        elif self.strategy == "full":
            self.backbone.load_state_dict(_of(tensors, BACKBONE))

    def _run(self, backbone: Any, images: Tensor, **settings: Any) -> Any:
        # Those that need to be told take an image of another size than they were trained on.
        if "interpolate_pos_encoding" in _forward_names(backbone):
            settings["interpolate_pos_encoding"] = True
        return backbone(pixel_values=self.processing.prepare(images), **settings)


def with_adapters(backbone: nn.Module, lora: LoraSettings) -> nn.Module:
    """The backbone in peft's wrapper with fresh adapters, which change nothing before they learn.

    BadConfig when no layer is named as in `lora.targets`, or, without targets, none as attention projections are.
    """
    from peft import LoraConfig, get_peft_model

    linear = {name.rpartition(".")[2] for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    usual: set[str] = next((names for names in _ATTENTION if names <= linear), set())
    targets = set(lora.targets) & linear if lora.targets else usual
    if not targets:
        raise BadConfig(
            "no layer to adapt", where=", ".join(lora.targets), mend=f"lora_targets of {', '.join(sorted(linear))}"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(targets),
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.24 by a name that is to go.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        module: nn.Module = get_peft_model(backbone, config)
    return module


def _freeze_unused(backbone: nn.Module, net: FoundationNet) -> None:
    """Nothing learns that the features do not hang on: poolers, mask tokens."""
    backbone.requires_grad_(True)
    net.backbone = backbone
    net.features(torch.full((1, 1, *net.processing.size_px), 0.5)).sum().backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


@contextmanager
def _eager(backbone: Any) -> Iterator[None]:
    """With attention computed so that it can be looked at."""
    model = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _forward_names(backbone: Any) -> set[str]:
    model = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
    code = type(model).forward
    return set(inspect.signature(code).parameters)


def _edges_px(size: Any) -> tuple[int, int]:
    """(rows, columns) of a patch; a network without patches has one of the whole image."""
    if size is None:
        return (1, 1)
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
