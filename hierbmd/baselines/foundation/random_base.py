"""Small models of the real classes with weights drawn at random: for tests, and where none pretrained are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hierbmd.baselines.foundation.base import CONFIG_FILE, RANDOM_NOTE, WEIGHTS_KEY
from hierbmd.baselines.foundation.images import PROCESSOR_FILE
from hierbmd.io.atomic import atomic_path, write_json

SIZE_PX = 168
_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": SIZE_PX,
    "patch_size": 14,
    "initializer_range": 0.08,  # as large as makes attention look somewhere; at the usual 0.02 it is even
}
RANDOM_BASES: dict[str, dict[str, Any]] = {
    "random-dinov2": {"model_type": "dinov2", **_COMMON, "mlp_ratio": 4},
    "random-clip": {"model_type": "clip_vision_model", **_COMMON, "intermediate_size": 256},
    "random-vit": {"model_type": "vit", **_COMMON, "intermediate_size": 256},
    "random-dinov2-registers": {"model_type": "dinov2_with_registers", **_COMMON, "mlp_ratio": 4},
}
"""The configurations by name. They have seen no image: they show that everything works, and nothing about accuracy."""

_PROCESSOR = {
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
    "size": {"shortest_edge": SIZE_PX},
    "crop_size": {"height": SIZE_PX, "width": SIZE_PX},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    WEIGHTS_KEY: RANDOM_NOTE,
}
"""As DINOv2's, at a smaller size; mean and SD are ImageNet's."""


def write_random_base(name: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write the random model of RANDOM_BASES into a folder as a hub has it; the same name and seed give the same bytes.

    `changes` are laid over the configuration. Returns the folder.
    """
    from safetensors.torch import save
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**{**RANDOM_BASES[name], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config)
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    size_px = config.image_size
    write_json(folder / PROCESSOR_FILE, {**_PROCESSOR, "size": {"shortest_edge": size_px}, "crop_size": size_px})
    write_json(folder / CONFIG_FILE, {**RANDOM_BASES[name], **changes})
    return folder
