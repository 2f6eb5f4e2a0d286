"""What the rods of a located phantom read, slice by slice, without their rims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.calibration.locate import Located
from hierbmd.calibration.slices import Slices
from hierbmd.data.phantoms import Phantom, Rod
from hierbmd.errors import MetalInRods, PhantomNotFound, RodsOutOfView
from hierbmd.rigid import transform_points
from hierbmd.units import METAL_HU

Floats = NDArray[np.float64]

_RIM_MM, _RIM_PX = 2.0, 1.5
"""What is left out at a rod's rim: the kernel's blur and overshoot, and the pixels that the plate shares."""

_LEAST_PIXELS, _LEAST_SLICES = 5, 3
_METAL_SHARE = 0.05
_PRESENT_HU, _PRESENT_SHARE = 25.0, 0.05
_UNEVEN_HU, _UNEVEN_TIMES = 40.0, 4.0


@dataclass(frozen=True)
class RodReadings:
    """What the rods read: `mean_hu` (rods, slices) and `sd_hu` of the pixels, NaN where a rod was not read.

    `slices` (n,) are the indices of the stack's slices that were read, all rods in the field together; `read` (rods,)
    says which rods were; `axes_world_mm` (rods, 2, 3) are the ends of what was read, LPS mm; `radius_mm` (rods,) what
    was averaged over.
    """

    mean_hu: Floats
    sd_hu: Floats
    slices: NDArray[np.intp]
    read: NDArray[np.bool_]
    axes_world_mm: Floats
    radius_mm: Floats


def read_rods(slices: Slices, phantom: Phantom, located: Located) -> RodReadings:
    """Read a phantom's rods in every slice that holds it.

    A rod counts where all of it is in the field; a slice where the rods read as they do in the phantom's middle.
    Errors: RodsOutOfView when less than three rods can be read; MetalInRods; PhantomNotFound when no slices agree.
    """
    count = slices.values.shape[2]
    radius = np.array([_read_radius_mm(rod, slices) for rod in phantom.rods])
    mean, sd, high = (np.full((len(phantom.rods), count), np.nan) for _ in range(3))
    for n, rod in enumerate(phantom.rods):
        for k in range(count):
            found = _one(slices, located.centre_mm(phantom, n, float(slices.w_mm[k])), rod, (k, radius[n]))
            mean[n, k], sd[n, k], high[n, k] = found
    spans = _near_slabs(located, slices)
    read = np.isfinite(mean[:, spans]).mean(axis=1) > 0.5
    if read.sum() < 3:
        raise RodsOutOfView(
            f"{int(read.sum())} of {len(phantom.rods)} rods of {phantom.name} lie whole in the field of view",
            mend="a larger field of view: three rods at least",
        )
    _require_no_metal(phantom, high, sd, read, spans)
    there = _there(mean, read & located.seen, spans) & np.isfinite(mean[read]).all(axis=0)
    there = _without_ends(there)
    if there.sum() < _LEAST_SLICES:
        raise PhantomNotFound(
            f"the rods of {phantom.name} are in {int(there.sum())} slices only", mend="three slices at least"
        )
    index = np.flatnonzero(there)
    ends = np.array(
        [
            [[*located.centre_mm(phantom, n, float(slices.w_mm[k])), slices.w_mm[k]] for k in (index[0], index[-1])]
            for n in range(len(phantom.rods))
        ]
    )
    world = transform_points(slices.world_from_stack, ends.reshape(-1, 3)).reshape(ends.shape)
    return RodReadings(mean[:, index], sd[:, index], index, read, world, radius)


def _read_radius_mm(rod: Rod, slices: Slices) -> float:
    rim_mm = max(_RIM_MM, _RIM_PX * float(slices.spacing_mm[:2].max()))
    return max(0.5 * rod.diameter_mm - rim_mm, 0.25 * rod.diameter_mm)


def _one(slices: Slices, centre_mm: Floats, rod: Rod, slice_radius: tuple[int, float]) -> tuple[float, float, float]:
    """Mean, standard deviation and highest value of a rod in a slice; NaN where it is not whole in the field."""
    k, radius_mm = slice_radius
    box = slices.box(centre_mm, 0.5 * rod.diameter_mm)
    nothing = (float("nan"),) * 3
    if box is None:
        return nothing
    away = slices.distance_mm(box, centre_mm)
    whole, inside = away <= 0.5 * rod.diameter_mm, away <= radius_mm
    if not slices.in_field[box][whole].all() or inside.sum() < _LEAST_PIXELS:
        return nothing
    values = slices.values[box[0], box[1], k]
    core = values[inside].astype(np.float64)
    return float(core.mean()), float(core.std()), float(values[whole].max())


def _near_slabs(located: Located, slices: Slices) -> NDArray[np.bool_]:
    """The slices between the first and the last slab that the phantom was seen on."""
    low, high = located.slabs_w_mm.min(), located.slabs_w_mm.max()
    step = slices.spacing_mm[2]
    return np.asarray((slices.w_mm >= low - 0.51 * step) & (slices.w_mm <= high + 0.51 * step))


def _require_no_metal(
    phantom: Phantom, high: Floats, sd: Floats, read: NDArray[np.bool_], spans: NDArray[np.bool_]
) -> None:
    usual = float(np.nanmedian(sd[read][:, spans]))
    for n in np.flatnonzero(read):
        share = float(np.mean(np.nan_to_num(high[n, spans]) > METAL_HU))
        if share > _METAL_SHARE:
            raise MetalInRods(
                f"metal in rod {phantom.rods[n].name} of {phantom.name}, in {share:.0%} of the slices",
                mend="scan again without it, or calibrate by another scan of the same protocol",
            )
        own = float(np.nanmedian(sd[n, spans]))
        if own > _UNEVEN_HU and own > _UNEVEN_TIMES * usual:
            raise MetalInRods(
                f"rod {phantom.rods[n].name} is not one material: SD {own:.0f} HU, others {usual:.0f}",
                where=phantom.name,
                mend="is this phantom in the scan? if so, is something in it, or metal's streaks across it: scan again",
            )


def _there(mean: Floats, seen: NDArray[np.bool_], spans: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The slices in which every rod with a contrast reads as it does on the slabs."""
    usual = np.nanmedian(mean[seen][:, spans], axis=1)
    allowed = _PRESENT_HU + _PRESENT_SHARE * np.abs(usual)
    away = np.abs(mean[seen] - usual[:, None])
    return np.asarray(np.all(np.nan_to_num(away, nan=np.inf) <= allowed[:, None], axis=0))


def _without_ends(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A slice beside one without the phantom may hold its end by half; the scan's own first and last do not."""
    return np.asarray(there & np.concatenate([[True], there[:-1]]) & np.concatenate([there[1:], [True]]))
