"""What is drawn for one radiograph: the X-ray unit, the exposure, and how the image is stored.

Each effect has random numbers of its own, so that one switched off or fixed leaves the others as they are. What a unit
keeps comes from its `site` number where one is given, else from the image's seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hierbmd.geometry import Camera, ProjectionGeometry
from hierbmd.physics.collimator import Field
from hierbmd.physics.heel import Direction
from hierbmd.physics.scatter import GRIDS, NO_GRID, Kernel
from hierbmd.physics.scatter import Grid as ScatterGrid
from hierbmd.simulation.marker import Marker, draw_marker
from hierbmd.simulation.multiscale import Multiscale
from hierbmd.simulation.options import RadiographSimulationOptions

Photometric = Literal["MONOCHROME1", "MONOCHROME2"]
Compression = Literal["none", "rle", "jpeg2000", "jpeg2000-lossy", "jpeg"]

_UNIT_STREAM, _IMAGE_STREAM = 0x0217, 0x1A6E
_STREAMS = {
    "heel": 1,
    "grid": 2,
    "shutter": 3,
    "multiscale": 4,
    "storage": 5,
    "exposure": 6,
    "field": 7,
    "marker": 8,
    "panel": 9,
}


@dataclass(frozen=True)
class Tube:
    """The tube's anode and where its cathode lies on the image; `flat_field_mm`, the distance from which the panel's
    flat field was taken, takes out what that field shares with this one (None: a plate that has none)."""

    anode_deg: int
    cathode: Direction
    flat_field_mm: float | None


@dataclass(frozen=True)
class Storage:
    """How the image goes into its file: depth, polarity and compression, with what that takes away."""

    bits: int = 12
    photometric: Photometric = "MONOCHROME2"
    compression: Compression = "none"
    jpeg_quality: int = 90
    jpeg2000_ratio: float = 10.0


@dataclass(frozen=True)
class Acquisition:
    """One radiograph's unit and exposure; None where an effect is off.

    `deviation_db` is the deviation index, 10 log10 of the dose over what automatic exposure aims at; with digital
    detectors it shows in noise and saturation alone. `panel` is the seed of the detector's gain, None without response.
    """

    tube: Tube | None
    grid: ScatterGrid
    kernel: Kernel
    panel: tuple[int, ...] | None
    field: Field | None
    shutter: bool
    marker: Marker | None
    deviation_db: float
    multiscale: Multiscale | None
    storage: Storage


def draw_acquisition(options: RadiographSimulationOptions, geometry: ProjectionGeometry, seed: int) -> Acquisition:
    """Draw what `options` leave open. The distributions are stated at each `_draw` below; most are assumptions."""
    unit = [seed, _IMAGE_STREAM] if options.site is None else [options.site, _UNIT_STREAM]
    unit_rng = {name: np.random.default_rng([*unit, n]) for name, n in _STREAMS.items()}
    image_rng = {name: np.random.default_rng([seed, _IMAGE_STREAM, 100 + n]) for name, n in _STREAMS.items()}
    field = _draw_field(image_rng["field"], geometry.camera) if options.has("collimation") else None
    return Acquisition(
        tube=_draw_tube(unit_rng["heel"], geometry.camera.sdd_mm) if options.has("heel") else None,
        grid=_draw_grid(unit_rng["grid"], options),
        kernel=options.scatter_kernel or ("transport" if options.realistic else "constant"),
        panel=(*unit, _STREAMS["panel"]) if options.has("response") else None,
        field=field,
        shutter=field is not None and options.display and unit_rng["shutter"].uniform() < _SHUTTER_SHARE,
        marker=draw_marker(image_rng["marker"], geometry, field) if options.has("marker") else None,
        deviation_db=_draw_deviation(image_rng["exposure"]) if options.has("exposure") else 0.0,
        multiscale=_draw_multiscale(unit_rng["multiscale"]) if options.has("multiscale") else None,
        storage=_draw_storage(unit_rng["storage"], options),
    )


_SHUTTER_SHARE = 0.7
"""Units that blacken what lies outside the field: an assumption, most do."""


def _draw_tube(rng: np.random.Generator, sdd_mm: float) -> Tube:
    """Anodes of 12 or 16 degrees evenly; cathode towards the abdomen, as books have it, in 6 of 10 rooms; flat fields

    from 1.8 m in a half, from the distance in use in 3 of 10, none in 2 (storage phosphor). Assumptions all.
    """
    anode_deg = int(rng.choice([12, 16]))
    cathode: Direction = rng.choice(np.array(["up", "down", "left", "right"]), p=[0.6, 0.2, 0.1, 0.1]).item()
    flat_field = rng.choice(3, p=[0.5, 0.3, 0.2])
    return Tube(anode_deg, cathode, (1800.0, sdd_mm, None)[flat_field])


def _draw_grid(rng: np.random.Generator, options: RadiographSimulationOptions) -> ScatterGrid:
    """One of the tabulated grids, each as likely; without realism the default one."""
    name = str(rng.choice(sorted(GRIDS)))
    if not options.grid:
        return NO_GRID
    return GRIDS[name] if options.realistic else ScatterGrid()


def _draw_field(rng: np.random.Generator, camera: Camera) -> Field:
    """Left and right edges -3 to 4 %, upper and lower -3 to 8 % of the image inside it, turned by 1.2 degrees (SD).

    Assumptions, narrow enough for both hips to stay in view. Hip images that were cropped after the fact make 10 % in
    one audit (Gudjonsdottir & Hannesdottir, Radiography Open 2019), and 82 % of all in another.
    """
    lateral, upright = rng.uniform(-0.03, 0.04, 2), rng.uniform(-0.03, 0.08, 2)
    turn_deg = float(np.clip(1.2 * rng.standard_normal(), -3.0, 3.0))
    points = camera.detector_points_mm()
    low, high = points[0, 0, :2], points[-1, -1, :2]
    size = high - low
    low = low + size * [lateral[0], upright[0]]
    high = high - size * [lateral[1], upright[1]]
    centre, extent = (low + high) / 2.0, high - low
    return Field((float(centre[0]), float(centre[1])), (float(extent[0]), float(extent[1])), turn_deg)


def _draw_deviation(rng: np.random.Generator) -> float:
    """A deviation index of SD 2, at most 6 either way: within what AAPM Task Group 232 reports for clinics (Dave et
    al., Med Phys 2018; figures not seen again here)."""
    return float(np.clip(2.0 * rng.standard_normal(), -6.0, 6.0))


def _draw_multiscale(rng: np.random.Generator) -> Multiscale:
    """Exponent 0.65-0.95, latitude 0.55-0.95, faintest contrast 0.02-0.06: what looks like radiographs; assumptions."""
    return Multiscale(
        exponent=float(rng.uniform(0.65, 0.95)),
        faintest=float(rng.uniform(0.02, 0.06)),
        latitude=float(rng.uniform(0.55, 0.95)),
    )


def _draw_storage(rng: np.random.Generator, options: RadiographSimulationOptions) -> Storage:
    """Realistic: 12 bits in 6 of 10 units, 10 in 2.5, 8 in 1.5; either polarity; lossless or none in 6 of 10, else JPEG

    2000 at 5:1 to 20:1 or JPEG of quality 75-97, which has 8 bits here. Assumptions. What an option says holds.
    """
    bits = int(rng.choice([12, 10, 8], p=[0.6, 0.25, 0.15]))
    inverse, ratio, quality = rng.uniform(), float(rng.uniform(5.0, 20.0)), int(rng.integers(75, 98))
    kinds: tuple[Compression, ...] = ("none", "jpeg2000", "jpeg2000-lossy", "jpeg")
    kind = kinds[int(rng.choice(4, p=[0.3, 0.3, 0.2, 0.2]))]
    if not options.realistic:
        bits, inverse, kind, quality, ratio = 12, 1.0, "none", 90, 10.0
    kind = options.compression or kind
    if kind == "jpeg" and options.bits is None:
        bits = 8
    return Storage(
        bits=options.bits or bits,
        photometric=options.photometric or ("MONOCHROME1" if inverse < 0.5 else "MONOCHROME2"),
        compression="jpeg2000-lossy" if kind == "jpeg" and (options.bits or 8) != 8 else kind,
        jpeg_quality=options.jpeg_quality or quality,
        jpeg2000_ratio=options.jpeg2000_ratio or ratio,
    )
