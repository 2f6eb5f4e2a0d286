"""The command line's contract: exit status, help, options from a dataclass, configuration files."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from hierbmd.cli import main as cli
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig, UnreadableFile
from hierbmd.options import option


@dataclass(frozen=True)
class Nested:
    starts: int = option("how many starts", 3)


@dataclass(frozen=True)
class Example:
    """An example command."""

    ct: str = option("the CT", positional=True)
    sdd_mm: float = option("source-detector distance")
    radiographs: tuple[str, ...] = option("radiographs", (), positional=True)
    size: tuple[int, int] | None = option("columns x rows", None)
    pose: tuple[float, ...] = option("rx,ry,rz,tx,ty,tz", (0.0,) * 6)
    structures: tuple[str, ...] = option("names", ())
    backend: Literal["auto", "cpu"] = option("which", "auto")
    json: bool = option("as JSON", False)
    nested: Nested = option("nested", Nested)


def test_values_come_from_flags_in_the_contract_s_forms():
    argv = ["ct.nii", "a.dcm", "b.dcm", "--sdd-mm", "1000", "--size", "40x50", "--pose", "-1,2,3.5,0,0,0"]
    argv += ["--structures=femur_left,hip_left", "--backend", "cpu", "--json", "--nested.starts", "5"]
    options = parse("example", Example, argv)
    pose = (-1.0, 2.0, 3.5, 0.0, 0.0, 0.0)
    structures = ("femur_left", "hip_left")
    assert options == Example("ct.nii", 1000.0, ("a.dcm", "b.dcm"), (40, 50), pose, structures, "cpu", True, Nested(5))


def test_a_configuration_file_gives_what_the_flags_do_not(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("sdd_mm: 900\nbackend: cpu\nnested:\n  starts: 7\n")
    options = parse("example", Example, ["ct.nii", "--config", str(config), "--backend", "auto"])
    assert (options.sdd_mm, options.backend, options.nested.starts) == (900.0, "auto", 7)


@pytest.mark.parametrize(
    "argv",
    [
        ["ct.nii", "--json", "a.dcm", "--sdd-mm", "1000", "b.dcm"],
        ["--sdd-mm", "1000", "ct.nii", "a.dcm", "--json", "b.dcm"],
        ["--json", "--sdd-mm=1000", "ct.nii", "a.dcm", "b.dcm"],
        ["--json", "--sdd-mm", "1000", "--", "ct.nii", "a.dcm", "b.dcm"],
    ],
)
def test_flags_stand_before_between_and_after_positionals(argv):
    assert parse("example", Example, argv) == Example("ct.nii", 1000.0, ("a.dcm", "b.dcm"), json=True)


def test_print_config_may_come_first(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("example", Example, ["--print_config", "ct.nii", "--sdd-mm", "1000"])
    assert ended.value.code == 0
    assert "ct: ct.nii" in capsys.readouterr().out


def test_an_unknown_key_in_a_configuration_is_refused_and_the_nearest_named(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("sdd_m: 900\n")
    with pytest.raises(BadConfig, match=r"sdd_m \(nearest key: sdd_mm\)"):
        parse("example", Example, ["ct.nii", "--config", str(config)])


def test_print_config_gives_yaml_that_can_be_read_back(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("example", Example, ["ct.nii", "--sdd-mm", "1000", "--size", "4x5", "--print_config"])
    assert ended.value.code == 0
    config = tmp_path / "c.yaml"
    config.write_text(capsys.readouterr().out)
    assert parse("example", Example, ["--config", str(config)]) == Example("ct.nii", 1000.0, size=(4, 5))


@pytest.mark.parametrize(
    "argv",
    [
        ["ct.nii"],
        ["ct.nii", "--sdd-mm", "far"],
        ["ct.nii", "--sdd-mm", "1", "--backend", "gpu"],
        ["ct.nii", "--sdd-mn", "1"],
        ["ct.nii", "--sdd-mm", "1", "--size", "4"],
    ],
)
def test_wrong_usage_ends_with_status_2_and_one_line_of_reason(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("example", Example, argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("hierbmd example: ")


def test_a_misspelt_flag_names_the_nearest(capsys):
    with pytest.raises(SystemExit):
        parse("example", Example, ["ct.nii", "--sdd-mm", "1", "--backent", "cpu"])
    assert "did you mean --backend?" in capsys.readouterr().err


def test_a_refusal_is_one_line_and_status_1(monkeypatch, capsys):
    class Module:
        @staticmethod
        def main(argv):
            raise UnreadableFile("not a readable CT", where=argv[0])

    monkeypatch.setattr(importlib, "import_module", lambda name: Module)
    assert cli.main(["drr", "x.nii"]) == 1
    assert capsys.readouterr().err == "hierbmd drr: not a readable CT: x.nii\n"


def test_no_command_and_a_wrong_one_are_usage_errors(capsys):
    assert cli.main([]) == 2
    assert cli.main(["dr"]) == 2
    assert "did you mean drr?" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0


@pytest.mark.parametrize("command", sorted(set(cli.COMMANDS)))
def test_help_of_every_command_is_light(command):
    code = (
        "import sys; from hierbmd.cli.main import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'monai', 'SimpleITK', 'scipy', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
