"""Options: a frozen dataclass is at once a function's argument, a command's options and its YAML."""

from __future__ import annotations

import dataclasses
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
