"""A CT's calibration from whatever says it: a phantom's name, a phantom's own rod table, or a line in a file."""

from __future__ import annotations

from pathlib import Path

from hierbmd.calibration.line import require_plausible
from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.data.calibration import Calibration
from hierbmd.data.phantoms import phantom_of_name
from hierbmd.data.volume import Volume
from hierbmd.io.calibration_file import read_calibration
from hierbmd.io.phantom_file import is_phantom_file, read_phantom


def calibration_from(source: str | Path, volume: Volume) -> Calibration:
    """The line of a CT in HU: measured on the phantom of a name or .json rod table, or read from a calibration.json.

    Errors: BadConfig for a name that is in no table, and whatever refuses the file or the scan.
    """
    if isinstance(source, str) and not source.endswith(".json"):
        return calibrate_by_phantom(volume, phantom_of_name(source))
    if is_phantom_file(source):
        return calibrate_by_phantom(volume, read_phantom(source))
    calibration = read_calibration(source)
    require_plausible(calibration, source)
    return calibration
