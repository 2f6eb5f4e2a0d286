"""What bad weights, configurations and data sets get: FAULTS 24, 27, 28, 29."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hierbmd.baselines.foundation import Options, fit, load
from hierbmd.baselines.foundation.base import CONFIG_FILE, RANDOM_NOTE, load_base, locate, read_base
from hierbmd.baselines.foundation.predictor import BASE_FOLDER
from hierbmd.baselines.foundation.presets import presets
from hierbmd.cli.main import main
from hierbmd.data.density import Material
from hierbmd.errors import BadConfig, SplitLeak, UntrustedWeights, WrongWeights
from hierbmd.io.dataset import read_dataset, write_view
from hierbmd.io.weights import write_weights
from hierbmd.predict import load_network_predictor


@pytest.fixture
def own_base(tiny_base: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a tiny DINOv2 that a test may break."""
    return shutil.copytree(tiny_base("random-dinov2"), tmp_path / "base")


@pytest.fixture
def moved_run(lora_run: Path, tmp_path: Path) -> Path:
    """A copy of a LoRA run."""
    return shutil.copytree(lora_run, tmp_path / "run")


def test_weights_that_are_a_pickle_are_refused(own_base: Path) -> None:
    (own_base / "model.safetensors").unlink()
    torch.save({}, own_base / "pytorch_model.bin")
    with pytest.raises(UntrustedWeights, match=r"safetensors only: pytorch_model\.bin"):
        read_base(own_base, name="x", aspect="pad")


def test_a_backbone_that_names_code_is_refused(own_base: Path) -> None:
    config = json.loads((own_base / CONFIG_FILE).read_text())
    (own_base / CONFIG_FILE).write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling.Mine"}}))
    with pytest.raises(BadConfig, match="code of its own"):
        read_base(own_base, name="x", aspect="pad")
    (own_base / CONFIG_FILE).write_text(json.dumps({**config, "model_type": "no_such_model"}))
    with pytest.raises(BadConfig, match="no backbone that transformers has"):
        read_base(own_base, name="x", aspect="pad")


def test_weights_that_do_not_fill_the_backbone_are_refused(own_base: Path) -> None:
    config = json.loads((own_base / CONFIG_FILE).read_text())
    (own_base / CONFIG_FILE).write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(WrongWeights, match=r"do not fill the backbone: encoder.layer.2"):
        load_base(read_base(own_base, name="x", aspect="pad"))
    (own_base / CONFIG_FILE).write_text(json.dumps(config))
    data = (own_base / "model.safetensors").read_bytes()
    (own_base / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(WrongWeights, match="cannot be loaded"):
        load_base(read_base(own_base, name="x", aspect="pad"))


def test_another_base_model_is_refused(moved_run: Path, tiny_base: Callable[..., Path]) -> None:
    shutil.copytree(tiny_base("random-dinov2", seed=1), moved_run / BASE_FOLDER)
    with pytest.raises(WrongWeights, match=r"adapters are of base model .* with weights_sha256"):
        load(moved_run)
    shutil.rmtree(moved_run / BASE_FOLDER)
    shutil.copytree(tiny_base("random-dinov2-registers"), moved_run / BASE_FOLDER)
    with pytest.raises(WrongWeights, match=r"adapters are of base model .* with config_sha256"):
        load(moved_run)


def test_a_base_model_that_has_moved_is_asked_for_and_found_beside_the_run(
    moved_run: Path, tiny_base: Callable[..., Path]
) -> None:
    card = json.loads((moved_run / "card.json").read_text())
    card["network"]["base"]["source"] = str(moved_run / "gone")
    (moved_run / "card.json").write_text(json.dumps(card))
    with pytest.raises(WrongWeights, match="is not where it was"):
        load(moved_run)
    shutil.copytree(tiny_base("random-dinov2"), moved_run / BASE_FOLDER)
    assert load(moved_run).card.training["base_weights"] == RANDOM_NOTE


def test_changed_adapters_are_refused(moved_run: Path) -> None:
    data = bytearray((moved_run / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (moved_run / "weights.safetensors").write_bytes(bytes(data))
    with pytest.raises(UntrustedWeights, match="hash differs"):
        load(moved_run)


def test_weights_of_another_kind_are_refused_both_ways(lora_run: Path, moved_run: Path, blob_reader: Any) -> None:
    with pytest.raises(WrongWeights, match="stage baseline; wanted stage"):
        load_network_predictor(lora_run)
    write_weights(moved_run, {"network.x": torch.zeros(1)}, blob_reader().card)
    with pytest.raises(WrongWeights, match=r"stage regress.*wanted stage baseline"):
        load(moved_run)


def test_a_patient_in_two_splits_or_the_same_pixels_twice_are_refused(
    low_dataset: Path, tiny_options: Callable[..., Options], tmp_path: Path
) -> None:
    dataset = read_dataset(low_dataset)
    torn = tuple(replace(r, split="val") if r.pair_id == "p00_left_0" else r for r in dataset.records)
    write_view(tmp_path / "torn", replace(dataset, records=torn))
    with pytest.raises(SplitLeak, match="two splits: p00"):
        fit(tmp_path / "torn", tmp_path / "run", tiny_options("linear"))
    sha256 = {r.pair_id: r.radiograph_sha256 for r in dataset.records}["p00_left_0"]
    twice = tuple(replace(r, radiograph_sha256=sha256) if r.pair_id == "p23_left_0" else r for r in dataset.records)
    write_view(tmp_path / "twice", replace(dataset, records=twice))
    with pytest.raises(SplitLeak, match=r"the same pixels .*p00_left_0 .*and p23_left_0"):
        fit(tmp_path / "twice", tmp_path / "run", tiny_options("linear"))
    assert not (tmp_path / "run").exists()


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadConfig, match=r"cannot be fetched from the hub.*nobody/nothing \(check") as caught:
        locate("nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadConfig, match=r"no such backbone: ./nowhere"):
        locate("./nowhere")


def test_presets_name_a_model_each() -> None:
    assert presets() == ("clip", "dinov2", "rad-dino", "xray-siglip")


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("strategi: lora\n", encoding="utf-8")
    arguments = ["train-baseline", "foundation", "--config", str(config), "--data", "x", "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "strategi" in (text := capsys.readouterr().err)
    assert "strategy" in text


def test_code_in_the_configuration_is_no_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, mark = tmp_path / "mine.yaml", tmp_path / "mark"
    config.write_text(f"backbone: {{class_path: os.system, init_args: {{command: touch {mark}}}}}\n", encoding="utf-8")
    arguments = ["--config", str(config), "--data", "x", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main(["train-baseline", "foundation", *arguments])
    assert "backbone" in capsys.readouterr().err
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"material": Material.K2HPO4}, "material HA; wanted material K2HPO4"),
        ({"region": "femoral_neck"}, "region total_hip; wanted region femoral_neck"),
    ],
)
def test_it_is_not_judged_in_another_mineral_or_region(
    lora_run: Path, low_dataset: Path, refused_by_evaluate: Callable[..., str], changed: Any, said: str
) -> None:
    assert said in refused_by_evaluate(lora_run, low_dataset, changed)
