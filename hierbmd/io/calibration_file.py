"""The calibration file: `calibration.json` holds rho = slope * HU + intercept, its material and where it came from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeVar

from hierbmd.data.calibration import Calibration, Drift, Uncertainty
from hierbmd.data.density import RESEARCH_USE_ONLY, Material
from hierbmd.errors import BadConfig, Uncalibrated
from hierbmd.io.atomic import read_json, write_json

_EQUATION = "rho = slope * HU + intercept"


def write_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write a calibration with its unit, atomically."""
    write_json(
        path,
        {
            "slope": calibration.slope,
            "intercept": calibration.intercept,
            "material": calibration.material.value,
            "unit": "mg/cm3",
            "equation": _EQUATION,
            "method": calibration.method,
            "residual_mg_cm3": calibration.residual_mg_cm3,
            "phantom": calibration.phantom,
            "uncertainty": None if calibration.uncertainty is None else dataclasses.asdict(calibration.uncertainty),
            "drift": None if calibration.drift is None else dataclasses.asdict(calibration.drift),
            "notes": list(calibration.notes),
            "rods": [dict(rod) for rod in calibration.rods],
            "tissues": [dict(tissue) for tissue in calibration.tissues],
            "effective_kev": calibration.effective_kev,
            "research_use_only": RESEARCH_USE_ONLY,
        },
    )


def read_calibration(path: str | Path) -> Calibration:
    """Read a calibration; Uncalibrated when slope, intercept or material is missing, or the unit is not mg/cm3."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadConfig("not a calibration file", where=path, mend="run hierbmd calibrate")
    if value.get("unit", "mg/cm3") != "mg/cm3":
        raise Uncalibrated(f"uncalibrated: a line in {value['unit']}, not mg/cm3", where=path, mend="convert it")
    materials = [material.value for material in Material]
    if value.get("material") not in materials:
        raise Uncalibrated("uncalibrated: the file does not say its material", where=path, mend=" or ".join(materials))
    residual = value.get("residual_mg_cm3")
    return Calibration(
        slope=_number(value, "slope", path),
        intercept=_number(value, "intercept", path),
        material=Material(value["material"]),
        method=str(value.get("method", "given")),
        residual_mg_cm3=None if residual is None else _number(value, "residual_mg_cm3", path),
        rods=tuple(dict(rod) for rod in value.get("rods") or ()),
        uncertainty=_part(Uncertainty, value.get("uncertainty"), path),
        drift=_part(Drift, value.get("drift"), path),
        phantom=str(value.get("phantom") or ""),
        notes=tuple(map(str, value.get("notes") or ())),
        tissues=tuple(dict(tissue) for tissue in value.get("tissues") or ()),
        effective_kev=None if value.get("effective_kev") is None else _number(value, "effective_kev", path),
    )


Part = TypeVar("Part", Uncertainty, Drift)


def _part(kind: type[Part], value: Any, path: str | Path) -> Part | None:
    """A part of the file that only a fitted line has; what it holds must be all there."""
    if value is None:
        return None
    try:
        stored: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in value.items()}
        return kind(**stored)
    except (TypeError, AttributeError):
        what = f"uncalibrated: {kind.__name__.lower()} is not what hierbmd calibrate writes"
        raise Uncalibrated(what, where=path, mend="calibrate again, or leave it out") from None


def _number(value: dict[str, Any], name: str, path: str | Path) -> float:
    number = value.get(name)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise Uncalibrated(f"uncalibrated: {name} is {number!r}, not a number", where=path, mend="correct the file")
    return float(number)
