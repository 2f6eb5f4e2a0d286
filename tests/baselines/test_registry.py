"""A baseline is trained by one command and read back as any model: shown on one made up here."""

from __future__ import annotations

import pytest

from hierbmd.baselines import registry
from hierbmd.cli.main import main
from hierbmd.errors import BadConfig, WrongWeights
from hierbmd.io.weights import read_card
from hierbmd.predict import load_network_predictor, load_predictor


@pytest.mark.usefixtures("constant")
def test_the_command_trains_and_the_folder_is_a_model(hip_dataset, tmp_path, capsys):
    argv = ["train-baseline", "constant", "--data", str(hip_dataset), "--value-g-cm2", "0.8"]
    assert main([*argv, "--out", str(tmp_path / "run")]) == 0
    assert "constant total_hip" in capsys.readouterr().out
    assert load_predictor(tmp_path / "run").card.name.startswith("constant total_hip ")
    evaluated = ["evaluate", "--model", str(tmp_path / "run"), "--data", str(hip_dataset), "--bootstrap-samples", "100"]
    assert main([*evaluated, "--out", str(tmp_path / "eval"), "--compare", f"same={tmp_path / 'run'}"]) == 0


@pytest.mark.usefixtures("constant")
def test_its_options_are_flags_and_yaml(hip_dataset, tmp_path, capsys):
    argv = ["train-baseline", "constant", "--data", str(hip_dataset), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*argv, "--value-g-cm2", "0.7", "--print_config"])
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    assert main([*argv, "--config", str(tmp_path / "c.yaml")]) == 0
    assert read_card(tmp_path / "run").network == {"value_g_cm2": 0.7}
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    (tmp_path / "c.yaml").write_text("value_g_cm2: 0.7\nstep: 3\n")
    assert main([*argv, "--config", str(tmp_path / "c.yaml")]) == 1
    assert "nearest key: steps" in capsys.readouterr().err


@pytest.mark.usefixtures("constant")
def test_a_name_that_there_is_not_is_refused_and_the_nearest_named(capsys):
    assert main(["train-baseline", "constnat", "--data", "x", "--out", "y"]) == 1
    assert "did you mean constant?" in capsys.readouterr().err
    assert main(["train-baseline"]) == 2
    with pytest.raises(BadConfig, match="no such baseline"):
        registry.baseline("nobody")


def test_weights_of_another_baseline_or_of_none_are_refused_with_both_shown(
    constant, hip_dataset, tmp_path, monkeypatch, tiny_runs
):
    constant.fit(hip_dataset, tmp_path / "run", constant.Options(0.8))
    monkeypatch.delitem(registry.BASELINES, "constant")
    with pytest.raises(WrongWeights, match="weights of baseline 'constant'"):
        load_predictor(tmp_path / "run")
    with pytest.raises(WrongWeights, match="of stage baseline; wanted stage synthesize or regress"):
        load_network_predictor(tmp_path / "run")
    with pytest.raises(WrongWeights, match="of stage regress; wanted stage baseline"):
        registry.load(tiny_runs["regress"])
