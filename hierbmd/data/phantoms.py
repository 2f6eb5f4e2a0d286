"""Bone-density calibration phantoms: rods of known density in a plate that is scanned under the patient.

The table is `phantoms.json` beside this file, with its sources and what in it is unverified. Rods differ from serial to
serial: a phantom's own certificate is a file of the same form (io/phantom_file.py).

Each material has its own equation, and they are never mixed:
- HA, hydroxyapatite in water-equivalent resin: rho = slope * HU + intercept (Kalender & Suess, Med Phys 1987);
- K2HPO4 (Mindways QCT PRO User's Guide v5.0): each rod is given as so much water and so much K2HPO4, and
  HU = water + sigma_ref * K2HPO4 + beta_ref is fitted. In tissue K2HPO4 displaces water, so that
  HU = sigma_ct * rho + beta_ct with sigma_ct = sigma_ref - 0.2174 and beta_ct = beta_ref + 999.6.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hierbmd.data.density import Material
from hierbmd.errors import BadConfig, SuspectedUnit

WATER_DISPLACED_BY_K2HPO4 = 0.2174
"""mg of water that 1 mg of dissolved K2HPO4 displaces (QCT PRO User's Guide v5.0)."""

WATER_MG_CM3 = 999.6
"""Density of the water that the K2HPO4 equation refers to, mg/cm3 (same source)."""

_DENSITIES_MG_CM3 = (-200.0, 2000.0)
_WATER_MG_CM3 = (700.0, 1300.0)
_DIAMETERS_MM = (3.0, 80.0)


@dataclass(frozen=True)
class Rod:
    """One rod: mineral in mg/cm3, diameter, and the place of its axis in the plate's cross-section, mm.

    `water_mg_cm3` is the water equivalent that a K2HPO4 rod is given with; None for HA, whose resin reads as water.
    """

    name: str
    density_mg_cm3: float
    diameter_mm: float
    x_mm: float
    y_mm: float
    water_mg_cm3: float | None = None


@dataclass(frozen=True)
class Phantom:
    """A phantom: rods along z through a plate of `plate_mm` (width x, height y, length z) that reads `plate_hu`.

    Its frame has its origin in the plate's middle, x across the patient to the left and y towards the table.
    """

    name: str
    material: Material
    rods: tuple[Rod, ...]
    plate_mm: tuple[float, float, float]
    plate_hu: float = 0.0
    maker: str = ""
    sources: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()


def density_line(sigma_ref: float, beta_ref: float) -> tuple[float, float]:
    """(slope, intercept) of rho[mg/cm3 K2HPO4] = slope * HU + intercept, from the fitted Mindways equation."""
    sigma_ct, beta_ct = sigma_ref - WATER_DISPLACED_BY_K2HPO4, beta_ref + WATER_MG_CM3
    return 1.0 / sigma_ct, -beta_ct / sigma_ct


def phantom_names() -> tuple[str, ...]:
    """The phantoms in the table."""
    return tuple(_table())


def phantom_of_name(name: str) -> Phantom:
    """A phantom of the table with its nominal rods; BadConfig names those there are."""
    if name not in _table():
        raise BadConfig("no phantom of this name", where=name, mend="one of " + ", ".join(phantom_names()))
    return phantom_from_json({"name": name, **_table()[name]}, "phantoms.json")


def phantom_from_json(value: Any, where: object) -> Phantom:
    """A phantom from its JSON object, checked.

    BadConfig for what is missing, no number, double or in another rod's place, for a K2HPO4 rod without its water and
    an HA rod with one; SuspectedUnit for densities in g/cm3 or sizes in cm.
    """
    if not isinstance(value, dict):
        raise BadConfig("not a phantom", where=where, mend="an object with name, material, plate_mm and rods")
    materials = [material.value for material in Material]
    if value.get("material") not in materials:
        raise BadConfig("the phantom does not say its material", where=where, mend=" or ".join(materials))
    material, rods = Material(value["material"]), value.get("rods")
    if not isinstance(rods, list) or len(rods) < 2:
        raise BadConfig("a phantom has two rods at least", where=where, mend="list them under rods")
    plate = value.get("plate_mm")
    if not isinstance(plate, list) or len(plate) != 3:
        raise BadConfig("the phantom's size is missing", where=where, mend="plate_mm: [width, height, length]")
    width, height, length = (_number({"plate_mm": side}, "plate_mm", where) for side in plate)
    phantom = Phantom(
        name=str(value.get("name", "")),
        material=material,
        rods=tuple(_rod(rod, material, where) for rod in rods),
        plate_mm=(width, height, length),
        plate_hu=_number({"plate_hu": 0.0, **value}, "plate_hu", where),
        maker=str(value.get("maker", "")),
        sources=tuple(map(str, value.get("sources") or ())),
        unverified=tuple(map(str, value.get("unverified") or ())),
    )
    _require_sensible(phantom, where)
    return phantom


def phantom_to_json(phantom: Phantom) -> dict[str, Any]:
    """The JSON object that `phantom_from_json` reads."""
    rods = []
    for rod in phantom.rods:
        water = {} if rod.water_mg_cm3 is None else {"water_mg_cm3": rod.water_mg_cm3}
        place = {"diameter_mm": rod.diameter_mm, "x_mm": rod.x_mm, "y_mm": rod.y_mm}
        rods.append({"name": rod.name, "density_mg_cm3": rod.density_mg_cm3, **water, **place})
    return {
        "name": phantom.name,
        "material": phantom.material.value,
        "maker": phantom.maker,
        "plate_mm": list(phantom.plate_mm),
        "plate_hu": phantom.plate_hu,
        "rods": rods,
        "sources": list(phantom.sources),
        "unverified": list(phantom.unverified),
    }


@cache
def _table() -> dict[str, Any]:
    text = files("hierbmd.data").joinpath("phantoms.json").read_text(encoding="utf-8")
    return dict(json.loads(text)["phantoms"])


def _rod(value: Any, material: Material, where: object) -> Rod:
    if not isinstance(value, dict) or not str(value.get("name", "")):
        raise BadConfig("a rod without a name", where=where, mend="give each rod a name")
    at = f"{where}, rod {value['name']}"
    with_water = value.get("water_mg_cm3") is not None
    if with_water != (material is Material.K2HPO4):
        needed = "needs its water equivalent" if not with_water else "of HA has no water equivalent"
        raise BadConfig(f"a rod {needed}", where=at, mend="HA and K2HPO4 have their own equations, never mixed")
    return Rod(
        name=str(value["name"]),
        density_mg_cm3=_number(value, "density_mg_cm3", at),
        diameter_mm=_number(value, "diameter_mm", at),
        x_mm=_number(value, "x_mm", at),
        y_mm=_number(value, "y_mm", at),
        water_mg_cm3=_number(value, "water_mg_cm3", at) if with_water else None,
    )


def _number(value: dict[str, Any], name: str, where: object) -> float:
    number = value.get(name)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise BadConfig(f"{name} is {number!r}, not a number", where=where, mend="correct the file")
    return float(number)


def _require_sensible(phantom: Phantom, where: object) -> None:
    largest = max(abs(rod.density_mg_cm3) for rod in phantom.rods)
    if largest < 3.0:
        raise SuspectedUnit(f"no rod is denser than {largest:g}", where=where, mend="g/cm3? give mg/cm3")
    if len({rod.name for rod in phantom.rods}) < len(phantom.rods):
        raise BadConfig("two rods of one name", where=where, mend="give each its own")
    for rod in phantom.rods:
        at = f"{where}, rod {rod.name}"
        _require_within(rod.density_mg_cm3, _DENSITIES_MG_CM3, ("a density", "mg/cm3"), at)
        _require_within(rod.diameter_mm, _DIAMETERS_MM, ("a diameter", "mm"), at)
        if rod.water_mg_cm3 is not None:
            _require_within(rod.water_mg_cm3, _WATER_MG_CM3, ("a water equivalent", "mg/cm3"), at)
        radius = rod.diameter_mm / 2.0
        if abs(rod.x_mm) + radius > phantom.plate_mm[0] / 2.0 or abs(rod.y_mm) + radius > phantom.plate_mm[1] / 2.0:
            raise BadConfig("a rod that leaves the plate", where=at, mend="places are in mm from the plate's middle")
    for n, rod in enumerate(phantom.rods):
        for other in phantom.rods[:n]:
            apart = math.hypot(rod.x_mm - other.x_mm, rod.y_mm - other.y_mm)
            if apart < (rod.diameter_mm + other.diameter_mm) / 2.0:
                raise BadConfig(f"rods {other.name} and {rod.name} overlap", where=where, mend="correct x_mm and y_mm")


def _require_within(number: float, bounds: tuple[float, float], what: tuple[str, str], where: object) -> None:
    if not bounds[0] <= number <= bounds[1]:
        name, unit = what
        raise SuspectedUnit(
            f"{name} of {number:g} {unit} is out of range {bounds[0]:g} to {bounds[1]:g}",
            where=where,
            mend="which unit?",
        )
