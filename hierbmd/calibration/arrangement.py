"""A phantom's rods among the circles of one image: where its cross-section lies, and which end is which.

Two circles as far apart as two rods give a place; it counts by how many other rods have a circle, whether what they
read rises with their density as it must, and whether what has no circle (a rod that reads as the plate does) reads as
the others say. Mirrored and turned orders compete, and so do shifts by one rod.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hierbmd.calibration.circles import Circles, find_circles
from hierbmd.calibration.slices import Slices
from hierbmd.data.phantoms import Phantom

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

_DISTANCE_MM, _PLACE_MM = 2.5, 3.5
_CORE_SHARE = 0.6
_AGREES_HU, _AGREES_SHARE = 30.0, 0.08
_LIKELY_HU_PER_MG, _LIKELY_ZERO_HU, _NO_ZERO_HU = (0.9, 2.4), 60.0, 300.0
_SCORED, _KEPT = 30, 4


@dataclass(frozen=True)
class Placing:
    """A phantom on one image: `centre_mm` (u, v) of its middle, `angle_rad` of its x axis, `mirrored` or not.

    `found_mm` (rods, 2) are the circles that its rods have, NaN without one.
    """

    centre_mm: Floats
    angle_rad: float
    mirrored: bool
    found_mm: Floats
    score: float

    @property
    def matched(self) -> int:
        """How many rods have a circle."""
        return int(np.isfinite(self.found_mm[:, 0]).sum())


def rod_places(phantom: Phantom) -> Floats:
    """The rods' axes in the plate's cross-section, (rods, 2), mm."""
    return np.array([(rod.x_mm, rod.y_mm) for rod in phantom.rods])


def expected_hu(phantom: Phantom, hu_per_mg: float) -> Floats:
    """What the rods read, up to a constant, at so many HU for 1 mg/cm3; K2HPO4 rods by their water too, (rods,)."""
    return np.array([(rod.water_mg_cm3 or 0.0) + hu_per_mg * rod.density_mg_cm3 for rod in phantom.rods])


def least_rods(in_field: int) -> int:
    """How many rods must have a circle of their own: three, and six in ten of those in the field."""
    return max(3, int(np.ceil(0.6 * in_field - 1e-9)))


def placings(image: Image, slices: Slices, phantom: Phantom) -> list[Placing]:
    """The likeliest places of a phantom on an image (nx, ny) in HU, the best first; none where it is not there."""
    circles = {d: find_circles(image, slices.spacing_mm[:2], d, slices.in_field) for d in _diameters(phantom)}
    rods = rod_places(phantom)
    collinear = bool(np.ptp(rods[:, 1]) < 1e-6)
    tried = [_poses(circles, phantom, mirrored) for mirrored in ((False,) if collinear else (False, True))]
    found: list[Placing] = []
    least = max(3, len(rods) // 2)
    for mirrored, (centres, angles) in enumerate(tried):
        if not len(centres):
            continue
        places = centres[:, None, :] + _turned(rods, angles, bool(mirrored))
        matched = np.stack(
            [_nearest(circles[rod.diameter_mm], places[:, n]) for n, rod in enumerate(phantom.rods)], axis=1
        )
        counts = np.isfinite(matched[..., 0]).sum(axis=1)
        # Every pair of a phantom's rods gives the same place: one of each set of circles is enough.
        _, first = np.unique(np.nan_to_num(matched.reshape(len(matched), -1), nan=-1.0), axis=0, return_index=True)
        best = first[np.argsort(-counts[first], kind="stable")][:_SCORED]
        for n in best[counts[best] >= least]:
            one = Placing(centres[n], float(angles[n]), bool(mirrored), matched[n], 0.0)
            score = _score(image, slices, phantom, one, places[n])
            if score is not None:
                found.append(Placing(one.centre_mm, one.angle_rad, one.mirrored, one.found_mm, score))
    return _distinct(sorted(found, key=lambda one: -one.score))


def _diameters(phantom: Phantom) -> set[float]:
    return {rod.diameter_mm for rod in phantom.rods}


def _turned(rods: Floats, angles: Floats, mirrored: bool) -> Floats:
    """The rods turned by each angle, (poses, rods, 2); mirrored ones have their y turned over first."""
    y = -rods[:, 1] if mirrored else rods[:, 1]
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.stack([cosine * rods[:, 0] - sine * y, sine * rods[:, 0] + cosine * y], axis=-1)


def _poses(circles: dict[float, Circles], phantom: Phantom, mirrored: bool) -> tuple[Floats, Floats]:
    """Centres (n, 2) and angles (n,) at which two rods fall on two circles."""
    rods = rod_places(phantom) * ((1.0, -1.0) if mirrored else (1.0, 1.0))
    centres, angles = [np.zeros((0, 2))], [np.zeros(0)]
    for i, j in permutations(range(len(rods)), 2):
        a = circles[phantom.rods[i].diameter_mm].centres_mm
        b = circles[phantom.rods[j].diameter_mm].centres_mm
        apart = b[None] - a[:, None]
        wanted = rods[j] - rods[i]
        near = np.abs(np.hypot(apart[..., 0], apart[..., 1]) - np.hypot(*wanted)) < _DISTANCE_MM
        first, second = np.nonzero(near)
        angle = np.arctan2(apart[near][:, 1], apart[near][:, 0]) - np.arctan2(wanted[1], wanted[0])
        middle = 0.5 * (rods[i] + rods[j])
        turned = _turned(middle[None], angle, False)[:, 0]
        centres.append(0.5 * (a[first] + b[second]) - turned)
        angles.append(angle)
    return np.concatenate(centres), np.concatenate(angles)


def _nearest(circles: Circles, places: Floats) -> Floats:
    """The circle nearest to each place, (n, 2), NaN where none is near."""
    if not len(circles.centres_mm) or not len(places):
        return np.full(places.shape, np.nan)
    away, nearest = cKDTree(circles.centres_mm).query(places, distance_upper_bound=_PLACE_MM)
    found = np.full(places.shape, np.nan)
    close = np.isfinite(away)
    found[close] = circles.centres_mm[nearest[close]]
    return found


def _score(image: Image, slices: Slices, phantom: Phantom, one: Placing, places: Floats) -> float | None:
    """How well a place explains the image; None where it cannot be."""
    has_circle = np.isfinite(one.found_mm[:, 0])
    at = np.where(has_circle[:, None], one.found_mm, places)
    core_hu = np.array([_core(image, slices, at[n], rod.diameter_mm) for n, rod in enumerate(phantom.rods)])
    in_field = np.isfinite(core_hu)
    use = has_circle & in_field
    if use.sum() < least_rods(int(in_field.sum())):
        return None
    per_mg, zero_hu = _line(phantom, core_hu, use)
    expected = expected_hu(phantom, per_mg) + zero_hu
    allowed = _AGREES_HU + _AGREES_SHARE * np.abs(expected)
    agrees = np.abs(core_hu - expected) < allowed
    rising = np.corrcoef(core_hu[use], expected_hu(phantom, 1.5)[use])[0, 1] if np.ptp(core_hu[use]) > 0 else -1.0
    apart = np.hypot(*(one.found_mm - places)[has_circle].T)
    score = float(use.sum()) + 2.0 * float(rising) - 0.15 * float(np.mean(apart))
    silent = in_field & ~has_circle
    score += 0.4 * float((silent & agrees).sum()) - 1.0 * float((silent & ~agrees).sum())
    low, high = _LIKELY_HU_PER_MG
    score -= 1.0 * float(not low <= per_mg <= high)
    off_hu = abs(zero_hu + (1000.0 if phantom.rods[0].water_mg_cm3 is not None else 0.0))
    # Neither resin nor water is anywhere near air: a rod's place outside the phantom is none.
    return None if off_hu > _NO_ZERO_HU else score - 0.5 * min(off_hu / _LIKELY_ZERO_HU, 2.0)


def _line(phantom: Phantom, hu: Floats, use: NDArray[np.bool_]) -> tuple[float, float]:
    """HU for 1 mg/cm3 and HU at none, by least squares; a K2HPO4 rod's water is taken off first."""
    density = np.array([rod.density_mg_cm3 for rod in phantom.rods])[use]
    water = np.array([rod.water_mg_cm3 or 0.0 for rod in phantom.rods])[use]
    if np.ptp(density) == 0:
        return 0.0, float(np.mean(hu[use] - water))
    slope, zero = np.polyfit(density, hu[use] - water, 1)
    return float(slope), float(zero)


def _core(image: Image, slices: Slices, centre_mm: Floats, diameter_mm: float) -> float:
    """The mean of a rod's middle, NaN where the rod is not whole in the field."""
    box = slices.box(centre_mm, 0.5 * diameter_mm)
    if box is None:
        return float("nan")
    away = slices.distance_mm(box, centre_mm)
    if not slices.in_field[box][away <= 0.5 * diameter_mm].all():
        return float("nan")
    inside = away <= max(_CORE_SHARE * 0.5 * diameter_mm, 0.75 * float(slices.spacing_mm[:2].max()))
    return float(image[box][inside].mean())


def _distinct(found: list[Placing]) -> list[Placing]:
    """The best few that are not one another's twins."""
    kept: list[Placing] = []
    for one in found:
        if all(np.hypot(*(one.centre_mm - k.centre_mm)) > _PLACE_MM or _apart(one, k) > 0.1 for k in kept):
            kept.append(one)
        if len(kept) == _KEPT:
            break
    return kept


def _apart(a: Placing, b: Placing) -> float:
    turn = abs(np.angle(np.exp(1j * (a.angle_rad - b.angle_rad))))
    return float(np.pi if a.mirrored != b.mirrored else turn)
