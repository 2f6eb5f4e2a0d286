"""Options: a frozen dataclass is at once a function's argument, a command's options and its YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def option(help: str, default: Any = dataclasses.MISSING, *, positional: bool = False) -> Any:
    """A dataclass field with its help text; without a default it is required.

    A positional field takes the command's positional arguments; a tuple-typed one takes all of them.
    """
    metadata = {"help": help, "positional": positional}
    if isinstance(default, (list, dict)):
        raise TypeError("an option's default is immutable")
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def part(*, only: tuple[str, ...] = (), names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The metadata of a field of another options dataclass, whose own fields are flags and keys of the whole.

    `only` are the fields that a user may set, all of them without it; one of a dataclass within has a dotted path.
    `names` gives a field another flag than its own name. What is not set keeps the default of its dataclass.
    """
    return {"part": True, "only": only, "names": dict(names or {})}
