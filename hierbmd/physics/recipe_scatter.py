"""The recipe of the scatter tables: `python -m hierbmd.physics.recipe_scatter`, with xraydb 4.5.8 installed.

`water_cross_sections.csv`: Elam, Ravel & Sieber 2002; `water_form_factor.csv`: Waasmaier & Kirfel's f0 of free H and O
atoms (Acta Cryst A51, 1995), both as xraydb has them. `scatter_kernel.csv`: what `transport.py` makes of them for
80 kVp behind 3 mm Al + 0.1 mm Cu and a gap of 50 mm, fitted by three Gaussians of fixed width.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hierbmd.physics.recipe import COMPOSITIONS, ENERGIES_KEV
from hierbmd.physics.scatter import KERNEL_MM
from hierbmd.physics.spectrum import tube_spectrum
from hierbmd.physics.transport import Exits, pencil_through_water

THICKNESSES_CM = (2, 5, 10, 15, 20, 25, 30, 35, 40)
_BATCH = 300_000


def main() -> None:
    """Write the tables beside this file."""
    folder = Path(__file__).resolve().parent
    write_water(folder)
    write_kernel(folder / "scatter_kernel.csv")


def write_water(folder: Path) -> None:
    """Water's cross-sections in cm2/g by kind, and its squared form factor a molecule by sin(theta/2)/lambda."""
    import xraydb

    parts = COMPOSITIONS["water"]
    rows = []
    for kev in ENERGIES_KEV:
        kinds = ("photo", "coh", "incoh")
        sums = [sum(w * float(xraydb.mu_elam(el, kev * 1e3, kind=k)) for el, w in parts.items()) for k in kinds]
        rows.append([str(kev), *(f"{value:.5g}" for value in sums)])
    _write(folder / "water_cross_sections.csv", ["energy_kev", "photoelectric", "coherent", "incoherent"], rows)
    at = np.concatenate([np.arange(0.0, 1.0, 0.02), np.arange(1.0, 12.3, 0.1)])
    squared = 2.0 * xraydb.f0("H", at) ** 2 + xraydb.f0("O", at) ** 2
    rows = [[f"{x:.2f}", f"{y:.5g}"] for x, y in zip(at, squared, strict=True)]
    _write(folder / "water_form_factor.csv", ["per_angstrom", "form_factor_squared"], rows)


def write_kernel(path: Path) -> None:
    """Scatter over primary signal in each Gaussian of the kernel, by thickness of water."""
    spectrum = tube_spectrum(80.0, "3.0 mm Al + 0.1 mm Cu")
    rows = []
    for thickness_cm in THICKNESSES_CM:
        batches = 1 + thickness_cm // 4
        exits = [pencil_through_water(spectrum, thickness_cm, _BATCH, seed=n) for n in range(batches)]
        rows.append([str(thickness_cm), *(f"{w:.3f}" for w in gaussian_ratios(exits))])
    _write(path, ["water_cm", *(f"sigma_{mm:g}_mm" for mm in KERNEL_MM)], rows)


def gaussian_ratios(exits: list[Exits]) -> NDArray[np.float64]:
    """The weights of the kernel's Gaussians whose integral over discs comes nearest to that of the photons."""
    radii = np.arange(5.0, 500.0, 5.0)
    signal = np.concatenate([e.signal for e in exits])
    scattered = np.concatenate([e.scatters for e in exits]) > 0
    radius = np.concatenate([e.radius_mm for e in exits])
    order = np.argsort(radius[scattered])
    cumulated = np.concatenate([[0.0], np.cumsum(signal[scattered][order])])
    within = cumulated[np.searchsorted(radius[scattered][order], radii)] / signal[~scattered].sum()
    discs = np.stack([1.0 - np.exp(-(radii**2) / (2.0 * mm**2)) for mm in KERNEL_MM], axis=1)
    return np.asarray(nnls(discs, within)[0])


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
