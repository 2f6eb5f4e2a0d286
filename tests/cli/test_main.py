"""The command line's contract: exit status, help, options from a dataclass, configuration files."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from hierbmd.cli import main as cli
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig, UnreadableFile
from hierbmd.options import option, part


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


@dataclass(frozen=True)
class Outer:
    inner: Nested = field(default_factory=Nested, metadata=part())
    seed: int = option("seed", 5)


@dataclass(frozen=True)
class Whole:
    """A command that takes over a library's options."""

    out: str = option("folder")
    all_of_it: Nested = field(default_factory=Nested, metadata=part(names={"starts": "tries"}))
    some: Outer = field(default_factory=Outer, metadata=part(only=("inner.starts",)))


def test_the_fields_of_a_part_are_flags_and_keys_of_the_command(tmp_path, capsys):
    assert parse("whole", Whole, ["--out", "o"]) == Whole("o", Nested(3), Outer(Nested(3), 5))
    given = ["--out", "o", "--tries", "1", "--starts", "2"]
    assert parse("whole", Whole, given) == Whole("o", Nested(1), Outer(Nested(2), 5))
    with pytest.raises(SystemExit):
        parse("whole", Whole, [*given, "--print_config"])
    text = capsys.readouterr().out
    assert text.splitlines() == ["out: o", "tries: 1", "starts: 2"]
    (tmp_path / "c.yaml").write_text(text)
    assert parse("whole", Whole, ["--config", str(tmp_path / "c.yaml"), "--starts", "4"]).some.inner.starts == 4
    with pytest.raises(SystemExit) as ended:
        parse("whole", Whole, [*given, "--seed", "1"])
    assert ended.value.code == 2


def test_flags_of_the_contract_reach_the_library_s_options():
    from hierbmd.cli import prepare, segment, simulate

    argv = ["--out", "o", "--size", "40x50", "--source-isocenter-mm", "900", "--seed", "7", "--kvp", "80"]
    simulated = parse("simulate", simulate.Options, [*argv, "--grid", "false"])
    assert (simulated.study.size_px, simulated.study.source_isocentre_mm) == ((40, 50), 900.0)
    assert (simulated.patient.seed, simulated.radiograph.kvp, simulated.radiograph.grid) == (7, 80.0, False)
    argv = ["m.csv", "--out", "o", "--frame-px", "32x64", "--frame-pixel-mm", "6,7", "--starts", "2", "--keep-metal"]
    prepared = parse("prepare", prepare.Options, [*argv, "--below-trochanter-mm", "4", "--split-seed", "3"]).prepare
    assert (prepared.row.pairing.frame.size_px, prepared.row.pairing.frame.pixel_mm) == ((32, 64), (6.0, 7.0))
    assert (prepared.row.pairing.registration.starts, prepared.row.pairing.keep_metal) == (2, True)
    assert (prepared.row.pairing.region.below_trochanter_mm, prepared.split_seed) == (4.0, 3)
    argv = ["ct", "--out", "o", "--below-trochanter-mm", "5"]
    assert parse("segment", segment.Options, argv).region.below_trochanter_mm == 5.0
