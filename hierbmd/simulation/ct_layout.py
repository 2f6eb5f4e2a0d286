"""Where things lie in a QCT scan: the patient's back, the phantom under it, the table, and the scanner's lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import Volume
from hierbmd.errors import BadConfig
from hierbmd.io.phantom_file import named_phantom
from hierbmd.physics.ct_beam import CtBeam
from hierbmd.simulation.ct_sampling import Lattice
from hierbmd.simulation.ct_table import BODY_HU, Back, back_of, sagitta_mm, table_top_mm
from hierbmd.simulation.options import ScanOptions
from hierbmd.simulation.phantom_rods import PlacedPhantom, phantom_of_serial, placed

_MARGIN_MM = 10.0
_LARGEST_DRAW = 2.2
_TABLE_SHOWN_MM = 30.0


@dataclass(frozen=True)
class Layout:
    """The back, the phantom and the y of the table's lowest line where there are any, and the lattice; LPS mm.

    `middle_mm` is the x of the table's middle, which the patient lies on.
    """

    back: Back
    middle_mm: float
    phantom: PlacedPhantom | None
    table_top_mm: float | None
    lattice: Lattice


def lay_out(options: ScanOptions, body: Volume, beam: CtBeam, rng: np.random.Generator) -> Layout:
    """Lay an upright body on phantom and table; BadConfig when there is no body, or no phantom of the name."""
    back = back_of(body)
    lain = np.isfinite(back.y_mm).any(axis=1)
    if not lain.any():
        raise BadConfig("nobody to scan: no voxel above -300 HU", mend="give a body in HU")
    middle_mm = float(back.x_mm[lain].mean())
    phantom = _phantom(options, back, beam, rng)
    table_mm = None
    if options.table:
        table_mm = table_top_mm(back, middle_mm, options.phantom_gap_mm)
        if phantom is not None:
            corners = phantom.corners_world_mm()
            table_mm = max(table_mm, float(np.max(corners[:, 1] + sagitta_mm(corners[:, 0] - middle_mm))))
    return Layout(back, middle_mm, phantom, table_mm, _lattice(options, body, phantom, table_mm))


def in_field(lattice: Lattice) -> NDArray[np.bool_]:
    """The pixels within the circle of the field of view, (nx, ny): as wide as the square that is reconstructed."""
    x, y = (centres - centres.mean() for centres in (lattice.x_mm, lattice.y_mm))
    radius = 0.5 * lattice.pixel_mm * max(len(x), len(y))
    return np.asarray(np.hypot(x[:, None], y[None, :]) <= radius)


def beyond_field(body: Volume, lattice: Lattice, *, round_field: bool) -> float:
    """The share of an upright body's voxels that lie outside the field of view, round or the lattice itself."""
    origin, step = body.grid.world_from_index[:3, 3], body.grid.spacing_mm
    x, y = (origin[n] + step[n] * np.arange(body.grid.shape[n]) for n in range(2))
    half = [0.5 * lattice.pixel_mm * len(centres) for centres in (lattice.x_mm, lattice.y_mm)]
    dx, dy = np.abs(x - lattice.x_mm.mean())[:, None], np.abs(y - lattice.y_mm.mean())[None, :]
    seen = np.hypot(dx, dy) <= max(half) if round_field else (dx <= half[0]) & (dy <= half[1])
    tissue = np.count_nonzero(body.values > BODY_HU, axis=2)
    return float(tissue[~np.broadcast_to(seen, tissue.shape)].sum() / tissue.sum())


def _phantom(options: ScanOptions, back: Back, beam: CtBeam, rng: np.random.Generator) -> PlacedPhantom | None:
    """The phantom under the patient, shifted and tilted as drawn; every draw is made whether or not it is used."""
    angles_deg, shift_mm = _draws(rng) * options.phantom_tilt_deg, _draws(rng) * options.phantom_shift_mm
    if not options.phantom:
        return None
    phantom = phantom_of_serial(named_phantom(options.phantom), options.serial)
    lain = np.isfinite(back.y_mm).any(axis=1)
    x_mm = float(back.x_mm[lain].mean() + shift_mm[0])
    z_mm = float(0.5 * (back.z_mm[0] + back.z_mm[-1]) + shift_mm[2])
    z_range = (float(back.z_mm[0]), float(back.z_mm[-1]))
    half = 0.5 * phantom.plate_mm[0]
    lowest_mm = back.lowest_mm((x_mm - half, x_mm + half), z_range)
    if not np.isfinite(lowest_mm):
        raise BadConfig("nobody lies over the phantom", where=phantom.name, mend="a smaller phantom_shift_mm")
    top_mm = np.array([x_mm, lowest_mm + options.phantom_gap_mm, z_mm])
    return placed(phantom, beam, top_mm, angles_deg, z_range)


def _draws(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.clip(rng.standard_normal(3), -_LARGEST_DRAW, _LARGEST_DRAW)


def _lattice(options: ScanOptions, body: Volume, phantom: PlacedPhantom | None, table_mm: float | None) -> Lattice:
    """The lattice that the options ask for; what they leave open is the body's own, made wide enough for all."""
    origin, step = body.grid.world_from_index[:3, 3], body.grid.spacing_mm
    last = origin + step * (np.array(body.grid.shape) - 1)
    pixel_mm = options.pixel_mm or float(step[0])
    low, high = origin[:2].copy(), last[:2].copy()
    if phantom is not None:
        corners = phantom.corners_world_mm()[:, :2]
        low, high = (
            np.minimum(low, corners.min(axis=0) - _MARGIN_MM),
            np.maximum(high, corners.max(axis=0) + _MARGIN_MM),
        )
    if table_mm is not None:
        high[1] = max(high[1], table_mm + _TABLE_SHOWN_MM)
    if options.fov_mm is not None:
        middle = 0.5 * (origin + last)[:2] + options.fov_shift_mm
        count = np.full(2, max(round(options.fov_mm / pixel_mm), 8))
        first = middle - 0.5 * pixel_mm * (count - 1)
    else:
        # Pixel centres stay on the body's own where pixels are its voxels.
        first = origin[:2] - pixel_mm * np.ceil((origin[:2] - low) / pixel_mm - 1e-9)
        count = np.floor((high - first) / pixel_mm + 1e-6).astype(int) + 1
    interval_mm = options.interval_mm or float(step[2])
    slices = int(np.floor((last[2] - origin[2]) / interval_mm + 1e-6)) + 1
    return Lattice(
        x_mm=first[0] + pixel_mm * np.arange(count[0]),
        y_mm=first[1] + pixel_mm * np.arange(count[1]),
        z_mm=origin[2] + interval_mm * np.arange(slices),
        pixel_mm=pixel_mm,
        thickness_mm=options.thickness_mm or 0.0,
        profile=options.profile,
    )
