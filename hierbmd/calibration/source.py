"""A CT's calibration from what says it: a phantom's name or rod table, the patient's tissues, a line in a file."""

from __future__ import annotations

from pathlib import Path

from hierbmd.calibration.internal import calibrate_internally
from hierbmd.calibration.line import require_plausible
from hierbmd.calibration.phantom import calibrate_by_phantom
from hierbmd.data.calibration import INTERNAL, Calibration
from hierbmd.data.phantoms import phantom_of_name
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.io.calibration_file import read_calibration
from hierbmd.io.ct import read_kvp
from hierbmd.io.phantom_file import is_phantom_file, read_phantom
from hierbmd.physics.ct_beam import CT_KVP


def calibration_from(
    source: str | Path, volume: Volume, labels: LabelMap | None = None, *, ct: str | Path | None = None
) -> Calibration:
    """The line of a CT in HU: measured on the phantom of a name or .json rod table, or read from a calibration.json.

    "internal" takes it from the patient's own tissues, found by `labels` on the CT's grid where they name any,
    with the voltage that the file `ct` states.
    Errors: BadConfig for a name that is in no table, and whatever refuses the file or the scan.
    """
    if source == INTERNAL:
        return calibrate_internally(volume, labels, kvp=None if ct is None else stated_kvp(ct))
    if isinstance(source, str) and not source.endswith(".json"):
        return calibrate_by_phantom(volume, phantom_of_name(source))
    if is_phantom_file(source):
        return calibrate_by_phantom(volume, read_phantom(source))
    calibration = read_calibration(source)
    require_plausible(calibration, source)
    return calibration


def stated_kvp(ct: str | Path) -> float | None:
    """The tube voltage that a CT's file states, kVp; None where it states none, or one that there is no beam for."""
    kvp = read_kvp(ct)
    return kvp if kvp is not None and CT_KVP[0] <= kvp <= CT_KVP[1] else None
