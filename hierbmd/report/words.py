"""HTML from figures and rows: everything that came from a file is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_DIGITS = {"g/cm2": 3, "cm2": 1, "mg/cm3": 1, "%": 1, "dB": 1, "": 3}


def number(value: float | None, unit: str = "") -> str:
    """A number with the digits that its unit deserves, a real minus sign, and the unit."""
    if value is None:
        return "-"
    digits = _DIGITS.get(unit, 3)
    text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")  # + 0.0: no minus before zero
    return escape(f"{text} {unit}".strip())


def estimate(figure: Mapping[str, Any]) -> str:
    """A figure of metrics.json as text: value and interval, or a dash and the reason why not."""
    unit, reason = figure.get("unit", ""), figure.get("reason")
    because = f' <span class="reason">{escape(reason)}</span>' if reason else ""
    if figure["value"] is None:
        return f"-{because}"
    if figure["low"] is None:
        return number(figure["value"], unit) + because
    return f"{number(figure['value'], unit)} {interval(figure)}"


def interval(figure: Mapping[str, Any]) -> str:
    """The interval of a figure in brackets."""
    low, high = (number(figure[end], figure.get("unit", "")).split(" ")[0] for end in ("low", "high"))
    return f'<span class="interval">({low} to {high})</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """A table; the first cell of a row is its header. Cells are HTML already, head and caption are text."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="scroll"><table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(source: str, *, alt: str, caption: str = "") -> str:
    """A picture with its text alternative and caption."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt, quote=True)}">{below}</figure>'


def card(what: str, value: str, detail: str) -> str:
    """A headline figure; `what` is text, the others HTML."""
    return (
        f'<div class="card"><div class="what">{escape(what)}</div><div class="figure">{value}</div>'
        f'<div class="detail">{detail}</div></div>'
    )
