"""`hierbmd train`: what its command line takes, and a smoke run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hierbmd.cli.main import main
from hierbmd.io.weights import read_card


def test_help_is_light() -> None:
    code = (
        "import sys\nfrom hierbmd.cli.main import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'lightning', 'jsonargparse', 'numpy'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--from" in found.stdout
    assert "resumes" in found.stdout


def test_a_smoke_run_from_the_command_line(readable_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["--data", str(readable_dataset), "--out", str(out), "--config", "smoke"]
    assert main(["train", "decompose", *arguments, "--model.discriminator.layers", "1", "--data.batch_size=3"]) == 0
    assert read_card(out).stage == "decompose"
    assert "batch_size: 3" in (out / "config.yaml").read_text()


def test_print_config_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "regress", "--print_config", "--config", "smoke", "--model.head.hidden=7"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "hidden: 7" in shown
    assert "limit_train_batches: 2" in shown


@pytest.mark.parametrize("arguments", [["anneal"], ["decompose"], ["decompose", "--data", "x"]], ids=str)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments])
    assert end.value.code == 2
