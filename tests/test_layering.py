"""The arrows of the house: who may import whom, and what a light command must not pull in."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hierbmd.cli.main import COMMANDS, module_of

ROOT = Path(__file__).resolve().parents[1]

LAYERS = (
    ("errors", "kernels", "options", "parallel", "units"),
    ("rigid",),
    ("geometry",),
    ("data",),
    ("io",),
    ("anatomy", "calibration", "drr", "models", "physics"),
    ("evaluation", "predict", "registration", "simulation"),
    ("cohort", "pairing", "report", "training"),
    ("baselines",),
    ("stages", "configs"),
    ("cli",),
)
"""From the bottom up; a part imports from lower layers, or from its own as long as no circle closes."""

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
HEAVY = ("torch", "lightning", "monai", "SimpleITK", "matplotlib", "sklearn", "numba", "nibabel", "pydicom")
LIGHTNING_PARTS = ("stages", "training")


@dataclass(frozen=True)
class Import:
    """One import statement's target, wherever in the file it stands."""

    importer: str
    part: str
    target: str
    line: int


def part_of(module: str) -> str:
    """The part of the house that a module of hierbmd belongs to; "hierbmd" for the package itself."""
    names = module.split(".")
    return names[1] if len(names) > 1 else names[0]


def imports_of(source: str, module: str) -> Iterator[Import]:
    """Every import in a module: at the top, in functions and under TYPE_CHECKING, relative ones resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, part_of(module), alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            for alias in node.names:
                yield Import(module, part_of(module), f"{base}.{alias.name}", node.lineno)


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package by its importable name: hierbmd, stages and configs."""
    for folder, package in (("hierbmd", "hierbmd"), ("stages", "hierbmd.stages"), ("configs", "hierbmd.configs")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(name for name in inside if name != "__init__")]), path


ALL = [found for module, path in modules() for found in imports_of(path.read_text(encoding="utf-8"), module)]
OURS = [found for found in ALL if found.target == "hierbmd" or found.target.startswith("hierbmd.")]


def wrong_arrows(found: list[Import]) -> list[str]:
    """The imports that run upward, or into or out of a part that has no place in the house."""
    wrong = []
    for one in found:
        target = part_of(one.target)
        if one.part == target or one.target == "hierbmd.__version__":
            continue
        if LEVEL.get(one.part, -1) < LEVEL.get(target, len(LAYERS)):
            wrong.append(f"{one.importer}:{one.line} imports {one.target}")
    return wrong


def test_arrows_run_downward_only():
    assert wrong_arrows(OURS) == []


def test_every_part_has_its_layer():
    parts = {part_of(module) for module, _ in modules()} - {"hierbmd"}
    assert parts <= set(LEVEL)


def test_no_circle_between_parts_of_a_layer():
    edges = {(one.part, part_of(one.target)) for one in OURS if one.part != part_of(one.target)}
    reached = {part: {b for a, b in edges if a == part} for part in LEVEL}
    for _ in LEVEL:
        reached = {part: direct.union(*(reached.get(b, set()) for b in direct)) for part, direct in reached.items()}
    assert [part for part, all_reached in reached.items() if part in all_reached] == []


def test_lightning_is_imported_in_stages_and_training_only():
    wrong = [one for one in ALL if one.target.split(".")[0] in ("lightning", "pytorch_lightning")]
    assert [f"{one.importer}:{one.line}" for one in wrong if one.part not in LIGHTNING_PARTS] == []


def test_nothing_imports_a_stage():
    assert [f"{one.importer}:{one.line}" for one in OURS if part_of(one.target) == "stages" != one.part] == []


def test_the_checks_see_an_arrow_that_runs_upward():
    source = "def f():\n    from hierbmd.cohort import prepare\n    import hierbmd.report.page\n"
    found = list(imports_of(source, "hierbmd.io.ct"))
    assert wrong_arrows(found) == [
        "hierbmd.io.ct:2 imports hierbmd.cohort.prepare",
        "hierbmd.io.ct:3 imports hierbmd.report.page",
    ]
    assert wrong_arrows(list(imports_of("from ..evaluation import run", "hierbmd.drr.scene"))) != []
    assert wrong_arrows(list(imports_of("from hierbmd.io import ct", "hierbmd.cli.drr"))) == []


def loaded_by(statement: str) -> set[str]:
    """The top-level names of the modules that a fresh Python holds after a statement."""
    code = f"import sys\n{statement}\nprint('LOADED', *sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


def test_import_hierbmd_is_light():
    assert loaded_by("import hierbmd").isdisjoint({*HEAVY, "numpy", "scipy", "jsonargparse"})


LIGHT_COMMANDS = [name for name in COMMANDS if name != "train"]


@pytest.mark.parametrize("command", LIGHT_COMMANDS)
def test_help_is_light(command):
    statement = (
        "import contextlib\n"
        "from hierbmd.cli.main import main\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    main([{command!r}, '--help'])\n"
    )
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_every_command_has_its_module():
    for name in COMMANDS:
        assert callable(importlib.import_module(module_of(name)).main)
