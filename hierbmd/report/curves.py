"""The way that a search took, drawn small: each axis against the steps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300, 84, 58, 16, 14
_COLOURS = ("#0b6fa4", "#b5561c", "#3a7d44")
_PANELS = (
    ("deg", ("about x", "about y", "about the beam"), slice(0, 3)),
    ("mm", ("along columns", "along rows", "depth"), slice(3, 6)),
)


def curves(trajectory: Sequence[Sequence[float]]) -> str:
    """Two small SVG plots of a trajectory (n, 6), degrees then mm, less the final pose; a note where there is none."""
    if not trajectory:
        return '<p class="note">No step was taken.</p>'
    return "".join(_panel([row[axes] for row in trajectory], unit, names) for unit, names, axes in _PANELS)


def _panel(rows: Sequence[Sequence[float]], unit: str, names: Sequence[str]) -> str:
    largest = max(1e-3, *(abs(value) for row in rows for value in row))
    across = (_WIDTH - _LEFT - 4) / max(len(rows) - 1, 1)
    middle, tall = (_TOP + _HEIGHT - _BOTTOM) / 2, (_HEIGHT - _TOP - _BOTTOM) / 2
    lines = []
    for axis, colour in enumerate(_COLOURS):
        points = " ".join(
            f"{_LEFT + across * step:.1f},{middle - tall * row[axis] / largest:.1f}" for step, row in enumerate(rows)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    words = "".join(
        f'<text x="{_LEFT + 78 * n}" y="11" fill="{colour}">{escape(name)}</text>'
        for n, (name, colour) in enumerate(zip(names, _COLOURS, strict=True))
    )
    scale = (
        f'<text x="{_LEFT - 4}" y="{_TOP + 6}" text-anchor="end">{largest:.3g} {unit}</text>'
        f'<text x="{_LEFT - 4}" y="{middle + 4:.1f}" text-anchor="end">0</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 2}" text-anchor="end">{len(rows)} poses</text>'
        f'<line x1="{_LEFT}" y1="{middle:.1f}" x2="{_WIDTH - 4}" y2="{middle:.1f}" stroke="#d9e0e6"/>'
    )
    label = (
        f"Poses of the search less the last one, {unit}; the first was at most {largest:.3g} {unit} away on an axis."
    )
    return (
        f'<svg class="curves" role="img" aria-label="{escape(label, quote=True)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{scale}{words}{"".join(lines)}</svg>'
    )
