"""The documents say what is so: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from hierbmd.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language, with the fence's indentation taken off."""
    text = path.read_text(encoding="utf-8")
    return [
        "\n".join(line.removeprefix(indent) for line in body.splitlines())
        for indent, kind, body in _FENCE.findall(text)
        if kind == language
    ]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_python_runs(path, hip_dataset):
    names = {"dataset_folder": hip_dataset}
    for block in blocks(path, "python"):
        exec(compile(block, str(path), "exec"), names)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert missing == []


def commands_in(path: Path) -> list[list[str]]:
    """The `hierbmd ...` lines of the shell blocks, as words; continued lines are joined, comments dropped."""
    text = "\n".join(blocks(path, "sh")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hierbmd ")]


@pytest.fixture(scope="session")
def help_of():
    """The help text of a command, asked for once."""
    texts: dict[str, str] = {}

    def text(command: str) -> str:
        if command not in texts:
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                main([*command.split(), "--help"])
            texts[command] = out.getvalue()
        return texts[command]

    return text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_flags_exist(path, help_of):
    for name, *words in commands_in(path):
        assert name in COMMANDS
        command = f"{name} {words[0]}" if name in ("train", "train-baseline") else name
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", help_of(command)), f"{path.name}: hierbmd {name} {word}"
