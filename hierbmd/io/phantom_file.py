"""The file of one calibration phantom: the rods of its own certificate, as JSON."""

from __future__ import annotations

from pathlib import Path

from hierbmd.data.phantoms import Phantom, phantom_from_json, phantom_of_name, phantom_to_json
from hierbmd.io.atomic import read_json, write_json


def named_phantom(name: str | Path) -> Phantom:
    """A phantom by its name in the table, or the one of a .json file; BadConfig names those there are."""
    return read_phantom(name) if str(name).endswith(".json") else phantom_of_name(str(name))


def read_phantom(path: str | Path) -> Phantom:
    """Read a phantom's rods; BadConfig or SuspectedUnit, with the rod's name, for what cannot be right."""
    return phantom_from_json(read_json(path), path)


def is_phantom_file(path: str | Path) -> bool:
    """Whether a JSON file is a rod table rather than a calibration; BadConfig when it is no JSON."""
    value = read_json(path)
    return isinstance(value, dict) and "plate_mm" in value


def write_phantom(path: str | Path, phantom: Phantom) -> None:
    """Write a phantom's rods, atomically, as `read_phantom` reads them."""
    write_json(path, phantom_to_json(phantom))
