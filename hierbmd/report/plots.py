"""Plots of figures with intervals, as data URIs that need no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierbmd.report.pictures import STYLE, svg

COLOURS = ("#0b6fa4", "#b5561c", "#3a7d44", "#7a4fa3", "#5a6875", "#a8325e", "#8a7a1f", "#2b9c98")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class Point(NamedTuple):
    """Where along the axis, the figure, and the ends of its interval."""

    at: float
    value: float
    low: float | None
    high: float | None


def lines(series: Mapping[str, Sequence[Point]], *, x: str, y: str, log_x: bool = False) -> str:
    """Named lines of figures with their intervals; points of different lines stand a little apart."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        axes = figure.subplots()
        for number, (name, points) in enumerate(series.items()):
            apart = 1.0 + 0.03 * (number - (len(series) - 1) / 2)
            placed = [point._replace(at=point.at * apart) for point in points]
            look: Any = {"color": COLOURS[number % len(COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
            axes.plot([p.at for p in placed], [p.value for p in placed], label=_words(name), lw=1.4, **look)
            _intervals(axes, placed, look["color"])
        if log_x:
            ticks = sorted({point.at for points in series.values() for point in points})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
            axes.minorticks_off()
        axes.set(xlabel=x, ylabel=y)
        axes.legend(frameon=False)
        return svg(figure)


def levels(
    names: Sequence[str],
    points: Sequence[Point],
    *,
    y: str,
    limits: Sequence[float] = (),
    ends: tuple[float, float] | None = None,
) -> str:
    """Figures of named levels with bars, at the places 0, 1, ... of their names; dashed lines at limits."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([p.at for p in points], [p.value for p in points], "o", color=COLOURS[0])
        _intervals(axes, points, COLOURS[0])
        for limit in limits:
            axes.axhline(limit, color=COLOURS[4], lw=1, ls="--")
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set(xlim=(-0.5, len(names) - 0.5), ylabel=y)
        if ends is not None:
            axes.set_ylim(*ends)
        return svg(figure)


def _intervals(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """A bar from the low to the high end of each interval, which need not hold the figure itself."""
    for point in points:
        if point.low is not None and point.high is not None:
            axes.vlines(point.at, point.low, point.high, color=colour, lw=1.2)


def _words(name: str) -> str:
    return name.replace("_", " ")
