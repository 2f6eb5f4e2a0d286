"""`hierbmd train-baseline lumbar_femur`: what its configuration may say (FAULTS 28)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hierbmd.cli.main import main


def _main(data: Path, tmp_path: Path, text: str) -> int:
    (tmp_path / "config.yaml").write_text(text)
    arguments = ["--data", data, "--out", tmp_path / "run", "--config", tmp_path / "config.yaml"]
    return main(["train-baseline", "lumbar_femur", *map(str, arguments)])


def test_an_unknown_key_is_refused_and_the_nearest_named(
    lumbar_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(lumbar_dataset, tmp_path, "backbones: UNet\n") == 1
    assert "backbone" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["backbone: os.system\n", "backbone: {class_path: os.system}\n"])
def test_a_backbone_is_one_of_a_list_and_no_code(
    lumbar_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _main(lumbar_dataset, tmp_path, text)
    assert "UNet" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_reference_of_another_region_is_refused(
    lumbar_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(lumbar_dataset, tmp_path, "femur_reference: nhanes-female-lumbar-l1-l4\n") == 1
    assert "choose a reference of the same region" in capsys.readouterr().err
