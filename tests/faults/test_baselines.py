"""FAULTS 23, 24 and 27 to 29 for the systems that the hierarchy is compared with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from hierbmd.baselines import radiomics
from hierbmd.baselines.radiomics.options import Options
from hierbmd.cli.main import main
from hierbmd.data.card import BASELINE, ModelCard
from hierbmd.data.density import Material
from hierbmd.data.halves import HalfFrame
from hierbmd.errors import BadManifest, SplitLeak, UntrustedWeights, WrongWeights
from hierbmd.io.dataset import read_dataset, write_view
from hierbmd.io.weights import write_weights
from hierbmd.predict import load_predictor


def _encoder(folder: Path, **changed: object) -> Path:
    """The folder of weights with a card that fits `hip_dataset`, but for what is changed."""
    network = {"generator": {"name": "UNet", "settings": {"widths": [4, 8]}}, "mask": True, "head": None}
    card = ModelCard("synthesize", ("total_hip",), network, HalfFrame((32, 64), (3.0, 3.0)), Material.HA, "total_hip")
    write_weights(folder, {"network.a": torch.zeros(3)}, dataclasses.replace(card, **changed))  # type: ignore[arg-type]
    return folder


def _refused(data: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line that the command ends with; nothing is left behind."""
    out = tmp_path / "refused"
    argv = ["train-baseline", "deep_radiomics", "--data", str(data), "--out", str(out), "--encoder", str(encoder)]
    assert main([*argv, *more]) == 1
    assert not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_an_external_set_of_another_mineral_is_not_mixed_in(hip_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(hip_dataset)
    card = dataclasses.replace(dataset.card, material=Material.K2HPO4)
    write_view(tmp_path / "other", dataclasses.replace(dataset, card=card))
    options = Options(encoder=_encoder(tmp_path / "encoder"), external=tmp_path / "other")
    with pytest.raises(BadManifest, match="K2HPO4"):
        radiomics.fit(hip_dataset, tmp_path / "out", options)


def test_an_encoder_of_another_mineral_is_refused(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = _encoder(tmp_path / "encoder")
    with pytest.raises(WrongWeights, match="do not fit the card's network"):
        radiomics.fit(hip_dataset, tmp_path / "out", Options(encoder=encoder))
    data = _view(hip_dataset, tmp_path / "data")
    other = _trained(tmp_path / "other", material=Material.K2HPO4)
    error = _refused(data, other, tmp_path, capsys)
    assert "material K2HPO4; wanted material HA" in error


def _view(hip_dataset: Path, folder: Path, **by_pair: dict[str, object]) -> Path:
    """The data set with some records changed."""
    dataset = read_dataset(hip_dataset)
    records = tuple(dataclasses.replace(r, **by_pair.get(r.pair_id, {})) for r in dataset.records)  # type: ignore[arg-type]
    write_view(folder, dataclasses.replace(dataset, records=records))
    return folder


def _trained(folder: Path, **changed: object) -> Path:
    """As `_encoder`, with a whole network."""
    from hierbmd.models.density import DensityNet
    from hierbmd.models.registry import NETWORK, network_card
    from hierbmd.models.unet import UNet

    network = DensityNet(UNet(widths=(4, 8)), ("total_hip",), mask=True)
    _encoder(folder)
    card = ModelCard(
        "synthesize", ("total_hip",), network_card(network), HalfFrame((32, 64), (3.0, 3.0)), Material.HA, "total_hip"
    )
    tensors = {NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    write_weights(folder, tensors, dataclasses.replace(card, **changed))  # type: ignore[arg-type]
    return folder


def test_one_patient_in_two_splits_is_refused_and_both_are_named(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = _view(hip_dataset, tmp_path / "torn", p00_left_0={"split": "test"})
    error = _refused(torn, _encoder(tmp_path / "encoder"), tmp_path, capsys)
    assert "one patient in two splits" in error
    assert "p00_left_0 (test)" in error


def test_the_same_pixels_under_two_patients_are_refused(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = read_dataset(hip_dataset).records[0].radiograph_sha256
    twice = _view(hip_dataset, tmp_path / "twice", p05_left_0={"radiograph_sha256": sha})
    error = _refused(twice, _encoder(tmp_path / "encoder"), tmp_path, capsys)
    assert "the same pixels under two patients" in error
    assert "p00_left_0" in error
    assert "p05_left_0" in error


@pytest.mark.parametrize("renamed", [False, True], ids=["patients", "pixels"])
def test_a_patient_of_the_external_set_among_the_others_is_refused(
    hip_dataset: Path, tmp_path: Path, renamed: bool
) -> None:
    dataset = read_dataset(hip_dataset)
    records = dataset.of_split("test")
    if renamed:
        records = tuple(dataclasses.replace(r, subject=f"x{r.subject}") for r in records)
    write_view(tmp_path / "external", dataclasses.replace(dataset, records=records))
    options = Options(encoder=_encoder(tmp_path / "encoder"), external=tmp_path / "external")
    with pytest.raises(SplitLeak, match="same pixels" if renamed else "one patient in two splits"):
        radiomics.fit(hip_dataset, tmp_path / "out", options)


def test_a_pickle_is_no_encoder_and_no_baseline(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": torch.zeros(2)}, tmp_path / "encoder.ckpt")
    error = _refused(hip_dataset, tmp_path / "encoder.ckpt", tmp_path, capsys)
    assert "only safetensors with a matching card" in error
    model = _encoder(tmp_path / "model", stage=BASELINE, baseline=radiomics.NAME)
    torch.save({"state_dict": torch.zeros(2)}, model / "weights.safetensors")
    with pytest.raises(UntrustedWeights, match="the hash differs"):
        load_predictor(model)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bin: 8", "unknown key in the configuration: bin (nearest key: bins)"),
        ("encoder: {class_path: os.system, init_args: {command: touch MARK}}", ""),
        ("model: {class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}", ""),
    ],
)
def test_an_unknown_key_and_code_in_a_configuration_are_refused(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    mark, config = tmp_path / "mark", tmp_path / "c.yaml"
    config.write_text(text.replace("MARK", str(mark)))
    argv = ["train-baseline", "deep_radiomics", "--data", str(hip_dataset), "--out", str(tmp_path / "out")]
    encoder = [] if text.startswith("encoder") else ["--encoder", str(tmp_path)]
    try:
        status = main([*argv, *encoder, "--config", str(config)])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status in (1, 2)
    assert said in capsys.readouterr().err
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"stage": "decompose"}, "stage decompose; wanted stage synthesize or regress"),
        ({"region": "femoral_neck"}, "region femoral_neck; wanted region total_hip"),
    ],
)
def test_an_encoder_of_another_stage_or_anatomy_is_refused_with_both_shown(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], shown: str
) -> None:
    assert shown in _refused(hip_dataset, _trained(tmp_path / "encoder", **changed), tmp_path, capsys)


def test_a_baseline_is_no_stage_to_start_from_and_no_other_baseline(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = _encoder(tmp_path / "model", stage=BASELINE, baseline="somebody")
    assert "stage baseline; wanted stage synthesize or regress" in _refused(hip_dataset, model, tmp_path, capsys)
    with pytest.raises(WrongWeights, match="baseline 'somebody'"):
        load_predictor(model)
    with pytest.raises(WrongWeights, match="baseline somebody; wanted baseline deep_radiomics"):
        radiomics.load(model)
    mine = _encoder(tmp_path / "mine", stage=BASELINE, baseline=radiomics.NAME)
    with pytest.raises(WrongWeights, match="the card names no model"):
        load_predictor(mine)
