"""A QCT scan: the CT that a scanner gives of a patient with known truth, and the truth of that CT.

Between the patient and the image stand, each to be switched off: the beam (what bone reads at a tube voltage behind
this body), a calibration phantom and the table, the lattice and the slice profile, the reconstruction kernel, cupping,
the drift of the scale, noise, and the field of view.

Not modelled: dark bands between dense bones, streaks of metal, gantry tilt, the bright rim of a truncated field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.calibration import Calibration
from hierbmd.data.density import Material
from hierbmd.data.volume import Volume
from hierbmd.physics.ct_beam import CtBeam, ct_beam, density_lines, nominal_beam
from hierbmd.simulation.ct_kernel import KERNELS, correlated_noise, reconstructed
from hierbmd.simulation.ct_layout import Layout, beyond_field, in_field, lay_out
from hierbmd.simulation.ct_sampling import Lattice, Sampler, cell_weights, upright
from hierbmd.simulation.ct_scale import (
    REFERENCE_DIAMETER_MM,
    Scale,
    body_at,
    cupped,
    draw_scale,
    water_diameters_mm,
)
from hierbmd.simulation.ct_table import table_shares
from hierbmd.simulation.options import ScanOptions
from hierbmd.simulation.phantom_rods import PlacedPhantom, with_phantom

Image = NDArray[np.float32]

_AIR_HU, _LOWEST_HU, _HIGHEST_HU = -1000.0, -1024.0, 3071.0
"""Air, and the 12 bits that a scanner stores."""

_LAYOUT, _SCALE, _NOISE = 1, 2, 3


class Scanned(Protocol):
    """What can be scanned: `body` in HU at 70 keV, without noise or table, and `density`, its true mineral in mg/cm3 HA
    on the same grid. A virtual patient is one; a real CT loses its table by `basis.without_table`."""

    @property
    def body(self) -> Volume:
        """The patient without a scanner, HU at 70 keV."""

    @property
    def density(self) -> Volume:
        """The true bone mineral density, mg/cm3 HA."""


@dataclass(frozen=True)
class Scan:
    """A simulated CT and its truth; research use only.

    `volume` is in whole HU, columns to the left, rows to the back, slices upward. `lines` are the true calibration
    lines by material, where there is no cupping and for the middle of the drift. `scale` says what each slice's scale
    did, its noise and the size of the body in it. `beyond_field` is the share of the body that the field of view leaves
    out.
    """

    volume: Volume
    options: ScanOptions
    beam: CtBeam
    lines: dict[Material, Calibration]
    scale: Scale
    phantom: PlacedPhantom | None
    beyond_field: float


def scan(patient: Scanned, options: ScanOptions | None = None, seed: int | tuple[int, ...] = 0) -> Scan:
    """Scan a patient; the same patient, options and seed give the same bytes.

    Errors: NotOrthogonal when the patient's grid lies oblique; BadConfig for a phantom that is in no table, and for a
    field of view with nobody in it.
    """
    options = options or ScanOptions()
    body, density = upright(patient.body), upright(patient.density)
    sizes_mm = water_diameters_mm(body)
    beam = nominal_beam() if options.kvp is None else ct_beam(options.kvp, float(np.mean(sizes_mm)))
    body = body_at(beam, body, density)
    layout = lay_out(options, body, beam, _rng(seed, _LAYOUT))
    z_mm = layout.lattice.z_mm
    scale = draw_scale(options, np.interp(z_mm, layout.back.z_mm, sizes_mm), z_mm, _rng(seed, _SCALE))
    values = np.empty(layout.lattice.grid.shape, dtype=np.float32)
    outside = ~in_field(layout.lattice)
    noise = _noise(options, layout.lattice, seed)
    for k, (alone, scene) in enumerate(_scenes(body, layout)):
        drop_hu = options.cupping_hu * (scale.water_diameters_mm[k] / REFERENCE_DIAMETER_MM) ** 2
        image = cupped(scene, alone, drop_hu)
        if options.kernel != "none":
            image = reconstructed(image, layout.lattice.pixel_mm, KERNELS[options.kernel])
        image = scale.read(image, k) + np.float32(scale.noise_sd_hu[k]) * next(noise)
        values[:, :, k] = np.clip(np.rint(image), _LOWEST_HU, _HIGHEST_HU)
        if options.padding_hu is not None:
            values[outside, k] = options.padding_hu
    return Scan(
        volume=Volume(values, layout.lattice.grid),
        options=options,
        beam=beam,
        lines=density_lines(beam, gain=float(np.mean(scale.gain)), offset_hu=scale.offset_hu),
        scale=scale,
        phantom=layout.phantom,
        beyond_field=beyond_field(body, layout.lattice, round_field=options.padding_hu is not None),
    )


def _scenes(body: Volume, layout: Layout) -> Iterator[tuple[Image, Image]]:
    """Each slice without the scanner's doing, (nx, ny) in HU: the patient alone, and with table and phantom."""
    sampler = Sampler(body, layout.lattice, outside=_AIR_HU)
    table = None
    if layout.table_top_mm is not None:
        table = table_shares(layout.lattice, layout.middle_mm, layout.table_top_mm)
    for k in range(len(layout.lattice.z_mm)):
        alone = sampler.slice(k)
        scene = alone if table is None else np.asarray((1.0 - table[0]) * alone + table[1], dtype=np.float32)
        yield alone, scene if layout.phantom is None else with_phantom(scene, layout.phantom, layout.lattice, k)


def _noise(options: ScanOptions, lattice: Lattice, seed: int | tuple[int, ...]) -> Iterator[Image]:
    """Noise of unit variance for each slice, (nx, ny).

    The data around each slice, half an interval to either side, have noise of their own; a slice takes from its
    neighbours' what its profile takes, so overlapping slices share noise.
    """
    kernel = KERNELS["standard" if options.kernel == "none" else options.kernel]
    shape = (len(lattice.x_mm), len(lattice.y_mm))
    weights = cell_weights(lattice)
    drawn: dict[int, Image] = {}
    for k in range(len(lattice.z_mm)):
        total = np.zeros(shape, dtype=np.float32)
        for cell, weight in enumerate(weights, start=k):
            if options.noise_hu > 0 and cell not in drawn:
                drawn[cell] = correlated_noise(shape, lattice.pixel_mm, kernel, _rng(seed, _NOISE, cell))
            if cell in drawn:
                total += np.float32(weight) * drawn[cell]
        drawn.pop(k, None)
        yield total


def _rng(seed: int | tuple[int, ...], *stream: int) -> np.random.Generator:
    return np.random.default_rng([*(seed if isinstance(seed, tuple) else (seed,)), *stream])
