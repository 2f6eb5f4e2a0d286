"""Where a phantom lies in a scan: its places on slabs of slices drawn into one rigid pose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from hierbmd.calibration.arrangement import Placing, placings, rod_places
from hierbmd.calibration.slices import Slices
from hierbmd.data.phantoms import Phantom
from hierbmd.errors import PhantomNotFound
from hierbmd.rigid import Matrix, rigid_matrix, transform_points

Floats = NDArray[np.float64]

_SLAB_MM, _MOST_SLABS = 10.0, 16
_STEEPEST_DEG, _TURN_DEG, _NEAR_MM = 15.0, 4.0, 4.0
_OWN_MM = 3.0
_COARSEST_SHARE = 1.0 / 4.0


@dataclass(frozen=True)
class Slab:
    """A mean of slices at `w_mm`, and where the phantom may be on it."""

    w_mm: float
    placings: list[Placing]


@dataclass(frozen=True)
class Located:
    """A phantom in a stack: `stack_from_phantom` rigid 4x4, mm; each rod's own shift from the table, (rods, 2), mm.

    `slabs_w_mm` are the middles of the slabs it was seen on; `seen` (rods,) says which rods had circles of their own.
    """

    stack_from_phantom: Matrix
    shifts_mm: Floats
    slabs_w_mm: Floats
    seen: NDArray[np.bool_]

    def centre_mm(self, phantom: Phantom, rod: int, w_mm: float) -> Floats:
        """Where a rod's axis meets the plane at w, (u, v)."""
        return _crossings(self.stack_from_phantom, rod_places(phantom), np.array([w_mm]))[0, rod] + self.shifts_mm[rod]


def locate(slices: Slices, phantom: Phantom) -> Located:
    """Find a phantom in a scan; PhantomNotFound where no straight arrangement of circles is its own."""
    pixel_mm = float(slices.spacing_mm[:2].max())
    thinnest = min(rod.diameter_mm for rod in phantom.rods)
    if pixel_mm > _COARSEST_SHARE * thinnest:
        raise PhantomNotFound(
            f"rods of {thinnest:g} mm cannot be read in pixels of {pixel_mm:.2g} mm", mend="a finer reconstruction"
        )
    slabs = [Slab(w, placings(image, slices, phantom)) for w, image in _slab_images(slices, phantom)]
    chain = _straightest(slabs)
    if not chain:
        best = max((p.matched for slab in slabs for p in slab.placings), default=0)
        raise PhantomNotFound(
            f"no phantom {phantom.name} in the scan ({best} of {len(phantom.rods)} rods alike on one slice)",
            mend="name the phantom that was scanned, or give its rod table; it must lie in the field of view",
        )
    return _refined(chain, phantom)


def _slab_images(slices: Slices, phantom: Phantom) -> Iterator[tuple[float, NDArray[np.float32]]]:
    count = slices.values.shape[2]
    thick_mm = min(_SLAB_MM, phantom.plate_mm[2] / 4.0)
    per_slab = int(np.clip(round(thick_mm / slices.spacing_mm[2]), 1, count))
    number = min(_MOST_SLABS, max(count // per_slab, 1))
    for first in np.linspace(0, count - per_slab, number).round().astype(int):
        w_mm = float(slices.spacing_mm[2] * (first + 0.5 * (per_slab - 1)))
        yield w_mm, slices.mean(int(first), int(first) + per_slab)


def _straightest(slabs: list[Slab]) -> list[tuple[float, Placing]]:
    """One place a slab, on a straight line and turned alike, of the highest score together."""
    all_of = [(slab.w_mm, one) for slab in slabs for one in slab.placings]
    best: list[tuple[float, Placing]] = []
    highest = 0.0
    for (w0, a), (w1, b) in combinations(all_of, 2):
        if w1 <= w0 or not _alike(a, b):
            continue
        step = (b.centre_mm - a.centre_mm) / (w1 - w0)
        if np.hypot(*step) > np.tan(np.radians(_STEEPEST_DEG)):
            continue
        chain = []
        for slab in slabs:
            there = a.centre_mm + step * (slab.w_mm - w0)
            near = [p for p in slab.placings if _alike(a, p) and np.hypot(*(p.centre_mm - there)) < _NEAR_MM]
            chain += [(slab.w_mm, max(near, key=lambda p: p.score))] if near else []
        score = sum(max(one.score, 0.0) for _, one in chain)
        if score > highest:
            best, highest = chain, score
    # One slab is a coincidence unless there is no more to be had.
    if not best and len(slabs) == 1 and all_of:
        return [max(all_of, key=lambda item: item[1].score)]
    return best


def _alike(a: Placing, b: Placing) -> bool:
    turn = np.degrees(abs(np.angle(np.exp(1j * (a.angle_rad - b.angle_rad)))))
    return a.mirrored == b.mirrored and bool(turn < _TURN_DEG)


def _refined(chain: list[tuple[float, Placing]], phantom: Phantom) -> Located:
    """The rigid pose nearest to all circles, and what each rod lies off it."""
    rods = rod_places(phantom)
    w_mm = np.array([w for w, _ in chain])
    found = np.stack([one.found_mm for _, one in chain])
    start = chain[int(np.argmax([one.score for _, one in chain]))]
    base, middle_mm = _base(start[1]), float(w_mm.mean())
    has = np.isfinite(found[..., 0])

    def pose(x: Floats) -> Matrix:
        rotation = Rotation.from_rotvec(x[2:5]).as_matrix() @ base
        return rigid_matrix(rotation, np.array([x[0], x[1], middle_mm]))

    def off(x: Floats) -> Floats:
        return np.asarray((_crossings(pose(x), rods, w_mm) - found)[has].ravel())

    first = np.array([*start[1].centre_mm, 0.0, 0.0, 0.0])
    scale = [1.0, 1.0, 0.02, 0.02, 0.02]
    done = least_squares(off, first, loss="soft_l1", x_scale=scale)
    away = np.where(has[..., None], found - _crossings(pose(done.x), rods, w_mm), np.nan)
    seen = has.mean(axis=0) > 0.3
    shifts = np.zeros((len(rods), 2))
    for n in np.flatnonzero(seen):
        shifts[n] = np.clip(np.nanmedian(away[:, n], axis=0), -_OWN_MM, _OWN_MM)
    return Located(pose(done.x), shifts, w_mm, seen)


def _base(placing: Placing) -> Matrix:
    """stack_from_phantom without tilt: mirrored is the other end up."""
    cosine, sine = np.cos(placing.angle_rad), np.sin(placing.angle_rad)
    x, up = np.array([cosine, sine, 0.0]), np.array([0.0, 0.0, -1.0 if placing.mirrored else 1.0])
    return np.stack([x, np.cross(up, x), up], axis=1)


def _crossings(stack_from_phantom: Matrix, rods: Floats, w_mm: Floats) -> Floats:
    """Where the rods' axes meet the planes at w, (planes, rods, 2)."""
    on_axis = transform_points(stack_from_phantom, np.column_stack([rods, np.zeros(len(rods))]))
    along = stack_from_phantom[:3, 2]
    steps = (w_mm[:, None] - on_axis[None, :, 2]) / along[2]
    return np.asarray(on_axis[None, :, :2] + steps[..., None] * along[:2])
