"""Which part of a model's folder is taken, and what identifies it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from hierbmd.baselines.foundation.base import RANDOM_NOTE, WEIGHTS_KEY, load_base, read_base
from hierbmd.baselines.foundation.images import PROCESSOR_FILE
from hierbmd.baselines.foundation.random_base import write_random_base


def test_of_a_model_for_images_and_text_the_image_tower_is_taken(
    tiny_base: Callable[..., Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    tower = read_base(tiny_base("random-clip"), name="tower", aspect="pad")
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config=dict(tower.config))
    whole = CLIPModel(config)
    config.save_pretrained(tmp_path)
    save_file(whole.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    processor = json.loads((tower.folder / PROCESSOR_FILE).read_text())
    del processor[WEIGHTS_KEY]
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(processor), encoding="utf-8")
    found = read_base(tmp_path, name="whole", aspect="pad")
    assert found.config_sha256 == tower.config_sha256
    assert found.pretrained
    model, images = load_base(found), torch.rand(1, 3, 56, 56)
    with torch.no_grad():
        expected = whole.eval().vision_model(pixel_values=images).last_hidden_state
        assert torch.equal(model(pixel_values=images).last_hidden_state, expected)


def test_random_weights_are_the_same_for_a_seed_and_say_what_they_are(tmp_path: Path) -> None:
    folders = [
        write_random_base("random-dinov2", tmp_path / name, seed=seed, hidden_size=16, num_hidden_layers=1)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = (read_base(folder, name="x", aspect="pad") for folder in folders)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert not first.pretrained
    assert first.identity()["note"] == RANDOM_NOTE
