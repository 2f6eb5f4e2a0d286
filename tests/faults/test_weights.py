"""FAULTS 27 and 29: weights that cannot be trusted, or are of something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hierbmd.cli.main import main
from hierbmd.data.card import ModelCard, require_matching
from hierbmd.data.density import Material
from hierbmd.data.halves import HalfFrame
from hierbmd.errors import UntrustedWeights, WrongWeights
from hierbmd.io.weights import read_card, read_weights, write_weights
from hierbmd.predict import load_predictor


class _Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def _card(stage: str = "synthesize") -> ModelCard:
    network = {"generator": {"name": "UNet", "settings": {"widths": [4, 8]}}, "mask": True, "head": None}
    return ModelCard(stage, ("total_hip",), network, HalfFrame((16, 32)), Material.HA, "total_hip")  # type: ignore[arg-type]


def _model(folder: Path, stage: str = "synthesize") -> Path:
    write_weights(folder, {"network.a": torch.zeros(3)}, _card(stage))
    return folder


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.pth", "model.bin", "model.safetensors"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "exploded"
    torch.save({"state_dict": _Bomb(mark)}, tmp_path / name)
    with pytest.raises(UntrustedWeights, match="only safetensors with a matching card"):
        read_weights(tmp_path / name)
    assert not mark.exists()


def test_a_pickle_under_the_right_name_is_refused_unread(tmp_path: Path) -> None:
    model, mark = _model(tmp_path / "m"), tmp_path / "exploded"
    torch.save(_Bomb(mark), model / "weights.safetensors")
    with pytest.raises(UntrustedWeights, match="the hash differs"):
        read_weights(model)
    # Even when its hash is put into the card it is read as safetensors, and as nothing else.
    import hashlib

    value = json.loads((model / "card.json").read_text())
    value["sha256"] = hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()
    (model / "card.json").write_text(json.dumps(value))
    with pytest.raises(UntrustedWeights, match="only safetensors"):
        read_weights(model)
    assert not mark.exists()


def test_one_changed_byte_is_refused(tmp_path: Path) -> None:
    path = _model(tmp_path) / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UntrustedWeights, match="the hash differs from the card's"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
def test_weights_without_card_and_card_without_weights_are_refused(tmp_path: Path, name: str) -> None:
    (_model(tmp_path) / name).unlink()
    with pytest.raises(UntrustedWeights, match=f"no {name}"):
        read_weights(tmp_path)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedWeights, match="no such model"):
        load_predictor(tmp_path / "nowhere")


def test_another_version_is_refused_with_both_named(tmp_path: Path) -> None:
    value = json.loads((_model(tmp_path) / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**value, "version": 7}))
    with pytest.raises(WrongWeights, match="version 7, not 1"):
        read_card(tmp_path)


@pytest.mark.parametrize("value", [[], {}, {"version": 1}, "card"])
def test_a_card_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    (_model(tmp_path) / "card.json").write_text(json.dumps(value))
    with pytest.raises(WrongWeights, match="not a model card"):
        read_card(tmp_path)


def test_another_anatomy_is_refused_with_both_shown() -> None:
    with pytest.raises(WrongWeights, match=r"the weights are of region total_hip; wanted region femoral_neck"):
        require_matching(_card(), region="femoral_neck")
    require_matching(_card(), region="total_hip", stage=("synthesize", "regress"))


def test_predict_refuses_a_stage_without_bmd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = _model(tmp_path / "m", "decompose")
    status = main(["predict", "x.dcm", "--model", str(model), "--out", str(tmp_path / "out")])
    assert status == 1
    error = capsys.readouterr().err
    assert "the weights are of stage decompose; wanted stage synthesize or regress" in error
    assert not (tmp_path / "out").exists()


def test_tensors_that_do_not_fit_the_card_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongWeights, match="do not fit the card's network"):
        load_predictor(_model(tmp_path))


def _pickled(model: Path, mark: Path) -> None:
    torch.save(_Bomb(mark), model / "weights.safetensors")


def _tampered(model: Path, mark: Path) -> None:
    data = bytearray((model / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "weights.safetensors").write_bytes(bytes(data))


def _of_another_version(model: Path, mark: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    (model / "card.json").write_text(json.dumps({**card, "version": 99}))


_COMMANDS = {
    "predict": ["predict", "x.dcm", "--model", "MODEL", "--out", "OUT"],
    "evaluate": ["evaluate", "--model", "MODEL", "--data", "DATA", "--out", "OUT"],
    "evaluate --folds": ["evaluate", "--folds", "MODEL,MODEL", "--data", "DATA", "--out", "OUT"],
    "ensemble": ["ensemble", "MODEL", "MODEL", "--data", "DATA", "--out", "OUT"],
    "train --from": ["train", "synthesize", "--data", "DATA", "--out", "OUT", "--from", "MODEL"],
}


@pytest.mark.parametrize("spoil", [_pickled, _tampered, _of_another_version])
@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_refuses_such_weights_in_one_line(
    command: str, spoil: Any, hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, mark = _model(tmp_path / "m", "decompose" if "train" in command else "synthesize"), tmp_path / "exploded"
    spoil(model, mark)
    places = {"MODEL": str(model), "DATA": str(hip_dataset), "OUT": str(tmp_path / "out")}
    arguments = [text.replace("MODEL", places["MODEL"]) for text in _COMMANDS[command]]
    assert main([places.get(text, text) for text in arguments]) == 1
    name = command.split(maxsplit=1)[0]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"hierbmd {name}:")]
    assert len(lines) == 1
    expected = "version 99, not 1" if spoil is _of_another_version else "only safetensors with a matching card"
    assert expected in lines[0]
    assert str(model) in lines[0]
    assert not (tmp_path / "out").exists()
    assert not mark.exists()
