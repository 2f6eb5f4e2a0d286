"""Without mirp, deep-radiomics says what to install, and a study says it before it begins."""

from __future__ import annotations

import sys

import pytest

from hierbmd.cli.main import main


@pytest.fixture(autouse=True)
def _no_mirp(monkeypatch):
    monkeypatch.setitem(sys.modules, "mirp", None)


def test_the_command_says_what_to_install_and_leaves_nothing(one_image_each, encoder_run, tmp_path, capsys):
    argv = ["train-baseline", "deep_radiomics", "--data", str(one_image_each), "--out", str(tmp_path / "run")]
    assert main([*argv, "--encoder", str(encoder_run)]) == 1
    error = capsys.readouterr().err
    assert "pip install 'hierbmd[radiomics]'" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_study_says_it_before_it_begins(tmp_path, capsys):
    assert main(["study", "--out", str(tmp_path / "study"), "--baselines", "deep_radiomics"]) == 1
    assert "pip install 'hierbmd[radiomics]'" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
