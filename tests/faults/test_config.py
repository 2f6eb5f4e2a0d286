"""FAULTS 28: a configuration that names code outside the allow-list, or an unknown key."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from hierbmd.cli._options import parse
from hierbmd.cli.main import main
from hierbmd.errors import BadConfig
from hierbmd.training.configure import config_path
from hierbmd.training.run import configure

MARK = "hierbmd_was_here"


@pytest.mark.parametrize(
    "text",
    [
        "model: {generator: {class_path: os.system, init_args: {command: touch %s}}}",
        "model: {optimizer: {class_path: subprocess.Popen, init_args: {args: [touch, %s]}}}",
        "trainer: {callbacks: [{class_path: subprocess.Popen, init_args: {args: [touch, %s]}}]}",
        'trainer: {logger: {class_path: builtins.exec, init_args: {source: \'open("%s", "w")\'}}}',
        "trainer: {plugins: [{class_path: pathlib.Path.touch, init_args: {self: %s}}]}",
    ],
)
def test_code_outside_the_allow_list_is_refused_unrun(tmp_path: Path, text: str) -> None:
    mark = tmp_path / MARK
    (tmp_path / "evil.yaml").write_text(text % mark)
    with pytest.raises(BadConfig, match=r"names code outside|cannot be used"):
        configure("decompose", [f"--config={tmp_path / 'evil.yaml'}", "--data.folder=x"])
    assert not mark.exists()


def test_the_refused_code_and_the_allowed_are_named(tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text("model: {optimizer: {class_path: os.system}}")
    with pytest.raises(BadConfig, match=r"outside the allow-list: os\.system \(allowed: hierbmd\.\*, monai\.\*"):
        configure("decompose", [f"--config={tmp_path / 'evil.yaml'}", "--data.folder=x"])


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("model: {weights: {l_1: 3}}", "model.weights.l1"),
        ("model: {weigths: {l1: 3}}", "model.weights.l1"),
        ("trainer: {max_epoch: 3}", "trainer.max_epochs"),
        ("data: {batchsize: 3}", "data.batch_size"),
        ("seed_everyting: 3", "seed_everything"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(tmp_path: Path, text: str, nearest: str) -> None:
    (tmp_path / "typo.yaml").write_text(text)
    with pytest.raises(BadConfig, match=rf"unknown key.*nearest key: {nearest}\)"):
        configure("decompose", [f"--config={tmp_path / 'typo.yaml'}", "--data.folder=x"])


def test_a_key_of_the_regress_head_is_unknown_to_decompose(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="unknown key"):
        configure("decompose", ["--model.head.hidden=3", "--data.folder=x"])


def test_a_wrong_value_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"trainer\.max_epochs"):
        configure("decompose", ["--trainer.max_epochs=many", "--data.folder=x"])


def test_an_adversary_in_stage_3_is_refused() -> None:
    with pytest.raises(BadConfig, match="regress has no adversary"):
        configure("regress", ["--model.weights.adversarial=1", "--data.folder=x"])


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "typo.yaml").write_text("model: {weights: {l_1: 3}}")
    arguments = ["--data", "x", "--out", str(tmp_path / "run"), "--config", str(tmp_path / "typo.yaml")]
    assert main(["train", "decompose", *arguments]) == 1
    assert capsys.readouterr().err.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no such configuration"):
        config_path(tmp_path / "none.yaml")
    assert config_path("smoke").name == "smoke.yaml"
    assert config_path("comparison/single_stage").name == "single_stage.yaml"
    with pytest.raises(BadConfig, match="no such configuration"):
        config_path("comparison/../smoke")


@pytest.mark.parametrize("stage", ["decompose", "synthesize", "regress"])
def test_every_stage_configuration_is_whole(stage: str) -> None:
    configure(stage, ["--data.folder=x", f"--config={config_path('smoke')}"])  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml")), ids=lambda p: p.stem)
def test_every_overlay_in_the_repository_is_accepted(path: Path) -> None:
    command = re.match(r"# hierbmd (\w+)", path.read_text())
    if command is not None:
        options = import_module(f"hierbmd.cli.{command.group(1)}").Options
        parse(command.group(1), options, [*_REQUIRED[command.group(1)], "--config", str(path)])
        return
    laid_over = re.match(r"# Laid over (\w+)\.yaml", path.read_text())
    assert laid_over is not None
    configure(laid_over.group(1), ["--data.folder=x", f"--config={path}"])  # type: ignore[arg-type]


_REQUIRED = {"prepare": ["m.csv", "--out", "o"], "evaluate": ["--model", "m", "--data", "d", "--out", "o"]}
"""What a command cannot do without, whatever its configuration says."""
