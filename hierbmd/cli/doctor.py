"""`hierbmd doctor`: what is installed and usable; what a CT, label map or radiograph is."""

from __future__ import annotations

import dataclasses
import json as json_text
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hierbmd.cli._options import parse
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.io.environment import Environment
    from hierbmd.io.inspect import FileReport


@dataclass(frozen=True)
class Options:
    """Say what is installed and usable, or what files are: CT, label map, radiograph, and what they lack."""

    files: tuple[str, ...] = option("CTs (a DICOM folder each), label maps, radiographs", (), positional=True)
    json: bool = option("print JSON instead of text", False)
    scheme: str | None = option("a JSON file {name: id} for label maps of another scheme", None)
    max_gib: float = option("how much a file may expand to, in GiB", 8.0)


def main(argv: list[str]) -> int:
    """Report the machine without files, the files otherwise; 1 when a file was refused."""
    options = parse("doctor", Options, argv)
    if not options.files:
        from hierbmd.io.environment import inspect_environment

        environment = inspect_environment()
        _print({"environment": dataclasses.asdict(environment)} if options.json else _environment_text(environment))
        return 0
    from hierbmd.io.inspect import inspect_files

    reports = inspect_files(options.files, scheme=options.scheme, max_gib=options.max_gib)
    if options.json:
        _print({"files": [dataclasses.asdict(report) for report in reports]})
    else:
        _print("\n\n".join(_report_text(report) for report in reports))
    return 1 if any(report.refusal for report in reports) else 0


def _print(content: dict[str, Any] | str) -> None:
    print(content if isinstance(content, str) else json_text.dumps(content, indent=2, allow_nan=False))


def _environment_text(environment: Environment) -> str:
    lines = [
        f"hierbmd {environment.hierbmd}, Python {environment.python}, {environment.system}",
        f"  CPU threads   {environment.cpu_threads}",
        f"  memory        {_words(environment.memory_gib)} GiB",
        f"  disk free     {environment.disk_free_gib} GiB here",
        f"  GPU           {', '.join(environment.gpus) or 'none'}",
        f"  torch         {environment.torch}",
        f"  numba         {environment.numba}",
    ]
    for usable, word in ((True, "reads"), (False, "cannot read")):
        names = [name for name, found in environment.decoders.items() if found is usable]
        lines.append(f"  {word:<13} {', '.join(names) or 'nothing'}")
    lines += ["packages"]
    for extra in dict.fromkeys(package.extra for package in environment.packages):
        of_extra = [p for p in environment.packages if p.extra == extra]
        words = ", ".join(f"{p.name} {p.version or '(missing)'}" for p in of_extra)
        lines.append(f"  {extra or 'core':<13} {words}")
    lines += [f"problem: {problem}" for problem in environment.problems]
    return "\n".join(lines)


def _report_text(report: FileReport) -> str:
    if report.refusal:
        return f"{report.path}: refused\n  {report.refusal}"
    lines = [f"{report.path}: {report.kind}"]
    lines += [f"  {name.replace('_', ' '):<20} {_fact_words(name, value)}" for name, value in report.facts.items()]
    lines += [f"  missing              {line}" for line in report.missing]
    return "\n".join(lines)


def _fact_words(name: str, value: Any) -> str:
    if name == "padding":
        return "none" if value is None else f"{value['hu']:g} HU, {100 * value['share']:.1f} % of the voxels"
    if name == "metal":
        return _metal_words(value)
    if name == "structures_ml":
        return ", ".join(f"{structure} {ml:g}" for structure, ml in value.items()) or "none"
    if name == "labels":
        return "; ".join(f"{path} {fit}" for path, fit in value.items())
    if name.startswith("size"):
        return " x ".join(map(str, value))
    return _words(value)


def _metal_words(metal: dict[str, Any]) -> str:
    if not metal["voxels"]:
        return "none above 3000 HU"
    what = "a speck above 3000 HU, a clip or dense contrast" if metal["speck"] else "above 3000 HU"
    words = f"{metal['voxels']} voxels, {metal['ml']:g} ml {what}"
    if metal["saturated_voxels"]:
        words += f", {metal['saturated_voxels']} at the end of the scale"
    places = metal.get("voxels_by_label")
    if places:
        words += "; metal in " + ", ".join(f"{name} ({voxels} voxels)" for name, voxels in places.items())
    return words


def _words(value: Any) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value)) or "none"
    return str(value)
