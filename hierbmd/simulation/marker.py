"""Side markers: the letter of the patient's side, of lead on the table or written on the image afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hierbmd.geometry import Camera, ProjectionGeometry, Side
from hierbmd.physics.attenuation import LEAD_G_CM3, mass_attenuation_cm2_g
from hierbmd.physics.collimator import Field
from hierbmd.physics.spectrum import Spectrum

Image = NDArray[np.float32]

LEAD_MM = 1.5
"""How thick lead letters are: a millimetre or two."""

_STROKE = 0.18
"""Width of a letter's stroke over its height."""

_BOWL = np.linspace(-np.pi / 2, np.pi / 2, 13)
_STROKES: dict[str, list[NDArray[np.float64]]] = {
    "L": [np.array([[-0.25, -0.42], [-0.25, 0.42], [0.25, 0.42]])],
    "R": [
        np.array([[-0.25, 0.42], [-0.25, -0.42], [0.02, -0.42]]),
        np.stack([0.02 + 0.22 * np.cos(_BOWL), -0.20 + 0.22 * np.sin(_BOWL)], axis=1),
        np.array([[0.02, 0.02], [-0.25, 0.02]]),
        np.array([[0.02, 0.02], [0.25, 0.42]]),
    ],
}
"""Centre lines of the letters in heights: x to the right, y down, about the letter's middle."""


@dataclass(frozen=True)
class Marker:
    """A letter on the detector: its middle (x, y) from the central ray and its height in mm, turned clockwise.

    "lead" lies between patient and detector and casts a shadow where the field is; "digital" is written on the image
    in full white, in the field or beside it.
    """

    letter: Literal["L", "R"]
    kind: Literal["lead", "digital"]
    centre_mm: tuple[float, float]
    height_mm: float = 15.0
    rotation_deg: float = 0.0


def covered_share(camera: Camera, marker: Marker) -> Image:
    """The share of each pixel that the letter covers, (H, W), 0 to 1, by the distance to its strokes."""
    turn = np.radians(marker.rotation_deg)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = camera.detector_points_mm()[..., :2] - np.array(marker.centre_mm)
    share = np.zeros(points.shape[:2], dtype=np.float32)
    near = np.max(np.abs(points), axis=-1) < marker.height_mm
    if not near.any():
        return share
    local_mm = points[near] @ axes
    lines = [line * marker.height_mm for line in _STROKES[marker.letter]]
    away_mm = np.min([_distance(local_mm, a, b) for line in lines for a, b in pairwise(line)], axis=0)
    pixel_mm = float(np.mean(camera.pixel_mm))
    share[near] = np.clip(0.5 + (0.5 * _STROKE * marker.height_mm - away_mm) / pixel_mm, 0.0, 1.0)
    return share


def lead_transmission(spectrum: Spectrum) -> float:
    """The share of the open beam's signal behind a letter of lead."""
    through = np.exp(-0.1 * LEAD_MM * LEAD_G_CM3 * mass_attenuation_cm2_g("lead", spectrum.energy_kev))
    return float(np.sum(spectrum.weights() * through))


def draw_marker(rng: np.random.Generator, geometry: ProjectionGeometry, field: Field | None) -> Marker | None:
    """A marker as radiographers place them, beside the patient on the side that it names; None: forgotten.

    Kinds: lead 0.6 (one in nine of them cut by the field's edge), digital 0.35, none 0.05. That lies between film
    (Adejoh et al., Open J Radiol 2014: all of lead, 11 % outside the primary field) and a digital children's
    department (Barry et al., J Med Radiat Sci 2016: 22 % of lead, 72 % digital, 6 % none). A bilateral image bears
    either letter. Places and sizes are assumptions: 12-18 mm high, in the upper or lower third, turned by some
    degrees. Letters read rightly from the source's side, as AP images are read.
    """
    kind, cut, right, upper = rng.uniform(size=4)
    height_mm, turn_deg, along, into = rng.uniform(12.0, 18.0), 6.0 * rng.standard_normal(), *rng.uniform(size=2)
    if kind > 0.95 or geometry.side == Side.NONE:
        return None
    letter: Literal["L", "R"] = "R" if geometry.side == Side.RIGHT else "L"
    if geometry.side == Side.BOTH and right < 0.5:
        letter = "R"
    # The patient's left is where world x (to the left) points on the image; in a lateral view it points nowhere.
    leftwards = geometry.camera_from_world[0, 0] if abs(geometry.camera_from_world[0, 0]) > 0.3 else 1.0
    outwards = float(np.sign(leftwards)) * (1.0 if letter == "L" else -1.0)
    low, high = _visible_box_mm(geometry.camera, field)
    is_cut = kind < 0.6 and cut < 1.0 / 9.0
    depth_mm = (0.4 * into - 0.2) * height_mm if is_cut else height_mm * (0.7 + 0.8 * into)
    inset_mm = 0.8 * height_mm + along * max((high[1] - low[1]) / 3.0 - 1.6 * height_mm, 0.0)
    x_mm = high[0] - depth_mm if outwards > 0 else low[0] + depth_mm
    y_mm = low[1] + inset_mm if upper < 0.6 else high[1] - inset_mm
    centre = np.array([x_mm, y_mm]) if field is None else field.centre_mm + field.axes @ [x_mm, y_mm]
    return Marker(
        letter=letter,
        kind="lead" if kind < 0.6 else "digital",
        centre_mm=(float(centre[0]), float(centre[1])),
        height_mm=float(height_mm),
        rotation_deg=0.0 if kind >= 0.6 else float(np.clip(turn_deg, -15.0, 15.0)),
    )


def _visible_box_mm(camera: Camera, field: Field | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The top left and bottom right of what the detector sees of the field, along the field's own axes about its

    centre; of the whole detector about the central ray without a field.
    """
    points = camera.detector_points_mm()
    low, high = points[0, 0, :2], points[-1, -1, :2]
    if field is None:
        return low, high
    half, slip = np.array(field.size_mm) / 2.0, abs(field.axes[1, 0]) * np.array(field.size_mm)[::-1] / 2.0
    return np.maximum(low + slip - field.centre_mm, -half), np.minimum(high - slip - field.centre_mm, half)


def _distance(points: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """From points (n, 2) to the segment from a to b."""
    way = b - a
    along = np.clip((points - a) @ way / (way @ way), 0.0, 1.0)
    return np.asarray(np.linalg.norm(points - a - along[:, None] * way, axis=1))
