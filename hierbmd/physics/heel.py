"""The heel effect: the anode absorbs more of what leaves it aslant, so the beam is weaker towards the anode.

`heel.csv` beside this file is spekpy's prediction (Poludniowski et al., Med Phys 2021), which follows each photon's way
out of a tungsten anode of 12 or 16 degrees; its recipe is `recipe.py`. A hard beam behind a patient shows less of it
than the open beam at 70 kVp, and more at 120 kVp, where electrons go deeper.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from hierbmd.errors import BadConfig
from hierbmd.geometry import Camera

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

Direction = Literal["up", "down", "left", "right"]
"""Where on the image the cathode lies."""

_CATHODE: dict[Direction, tuple[float, float]] = {
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
}

_REACH_DEG, _WATER_CM = (-11.0, 11.0), (0.0, 30.0)


def anode_angles_deg(camera: Camera, cathode: Direction) -> NDArray[np.float64]:
    """Each pixel's angle off the central ray in the plane of the tube's axis, (H, W), above zero towards the anode.

    Where rays are parallel along the tube's axis, as a slot scanner's may be, there is no such angle: all are 0.
    """
    points, axis = camera.detector_points_mm(), np.array(_CATHODE[cathode])
    away_mm = -(points[..., :2] * camera.beam.fans) @ axis
    return np.asarray(np.degrees(np.arctan2(away_mm, camera.sdd_mm)))


def heel_factor(
    angle_deg: NDArray[np.float64], water_cm: NDArray[np.floating], *, kvp: float, anode_deg: int = 12
) -> Image:
    """The signal at an angle towards the anode over that on the central ray at the same distance, behind water, (H, W).

    Angles are held to 11 degrees each way, water to 0-30 cm, voltages to 70-120 kVp. BadConfig for an anode that is
    not tabulated (12 or 16 degrees).
    """
    if anode_deg not in _table():
        raise BadConfig("no heel effect tabulated for this anode", where=f"{anode_deg} deg", mend="12 or 16 deg")
    kvps, angles, waters, ratios = _table()[anode_deg]
    interpolate = RegularGridInterpolator((kvps, angles, waters), ratios)
    voltage = np.full(np.shape(angle_deg), np.clip(kvp, kvps[0], kvps[-1]))
    at = np.stack([voltage, np.clip(angle_deg, *_REACH_DEG), np.clip(water_cm, *_WATER_CM)], axis=-1)
    return np.asarray(interpolate(at), dtype=np.float32)


@cache
def _table() -> dict[int, tuple[Floats, Floats, Floats, Floats]]:
    """By anode angle: voltages, angles, thicknesses of water and the ratios over them."""
    text = files("hierbmd.physics").joinpath("heel.csv").read_text(encoding="utf-8")
    header, *rows = list(csv.reader(text.splitlines()))
    values = np.array(rows, dtype=np.float64)
    waters = np.array([float(name.split("_")[1]) for name in header[3:]])
    found: dict[int, tuple[Floats, Floats, Floats, Floats]] = {}
    for anode in np.unique(values[:, 0]):
        part = values[values[:, 0] == anode]
        kvps, angles = np.unique(part[:, 1]), np.unique(part[:, 2])
        found[int(anode)] = (kvps, angles, waters, part[:, 3:].reshape(len(kvps), len(angles), len(waters)))
    return found
