"""The recipe of the committed tables: `python -m hierbmd.physics.recipe`, with xraydb 4.5.8 and spekpy 2.5.4 installed.

Neither is needed to run hierbmd: `attenuation.csv`, `spectra.csv` and `heel.csv` beside this file are what it writes.

Attenuation: Elam, Ravel & Sieber, Radiat Phys Chem 2002, as xraydb tabulates it (photoelectric, coherent and incoherent
summed), which tests hold to NIST XCOM figures. Compositions by mass: water; soft tissue, adipose, skeletal muscle,
whole blood and cortical bone of ICRU Report 44 (as NIST's tables of X-ray mass attenuation list them); hydroxyapatite
Ca10(PO4)6(OH)2 at 3.16 g/cm3; K2HPO4; collagen as C 0.533 H 0.071 N 0.171 O 0.225 (Gly-Pro-Hyp average); titanium alloy
as titanium. Spectra: spekpy's default model (Poludniowski et al., Med Phys 2021; "kqp") for a tungsten anode at 12
degrees. Heel effect: the same model off the axis, which follows the photons' way out of the anode.
"""

from __future__ import annotations

import csv
from pathlib import Path

COMPOSITIONS: dict[str, dict[str, float]] = {
    "water": {"H": 0.111898, "O": 0.888102},
    "soft_tissue": {
        "H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003,
    },
    "adipose": {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001},
    "hydroxyapatite": {"H": 0.002, "O": 0.414, "P": 0.185, "Ca": 0.399},
    "collagen": {"H": 0.071, "C": 0.533, "N": 0.171, "O": 0.225},
    "titanium": {"Ti": 1.0},
    "aluminium": {"Al": 1.0},
    "cesium_iodide": {"Cs": 0.5115, "I": 0.4885},
    "dipotassium_phosphate": {"H": 0.0058, "O": 0.3674, "P": 0.1778, "K": 0.4490},
    "lead": {"Pb": 1.0},
    "muscle": {
        "H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "Na": 0.001, "P": 0.002, "S": 0.003, "Cl": 0.001, "K": 0.004,
    },
    "blood": {
        "H": 0.102, "C": 0.110, "N": 0.033, "O": 0.745, "Na": 0.001, "P": 0.001, "S": 0.002, "Cl": 0.003, "K": 0.002,
        "Fe": 0.001,
    },
    "cortical_bone": {
        "H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225,
    },
}  # fmt: skip
"""Mass fractions by element."""

ENERGIES_KEV = tuple(range(10, 151))

FILTRATIONS: dict[str, list[tuple[str, float]]] = {
    "3.0 mm Al": [("Al", 3.0)],
    "3.0 mm Al + 0.1 mm Cu": [("Al", 3.0), ("Cu", 0.1)],
    "3.0 mm Al + 0.2 mm Cu": [("Al", 3.0), ("Cu", 0.2)],
}
KILOVOLTS = (70, 75, 80, 85, 90, 100, 120, 140)

HEEL_KILOVOLTS, HEEL_ANODES_DEG, HEEL_ANGLES_DEG = (70, 80, 90, 120), (12, 16), tuple(range(-11, 12))
HEEL_WATER_CM = (0, 10, 20, 30)


def main() -> None:
    """Write the tables beside this file."""
    folder = Path(__file__).resolve().parent
    write_attenuation(folder / "attenuation.csv")
    write_spectra(folder / "spectra.csv")
    write_heel(folder / "heel.csv")


def write_attenuation(path: Path) -> None:
    """Mass attenuation in cm2/g of every composition at every energy."""
    import xraydb

    rows = []
    for energy_kev in ENERGIES_KEV:
        row = [str(energy_kev)]
        for parts in COMPOSITIONS.values():
            total = sum(parts.values())
            value = sum(share * float(xraydb.mu_elam(el, energy_kev * 1000.0)) for el, share in parts.items()) / total
            row.append(f"{value:.5g}")
        rows.append(row)
    _write(path, ["energy_kev", *COMPOSITIONS], rows)


def write_spectra(path: Path) -> None:
    """Fluence per keV bin, photons/mm2/mAs at 1 m, for each tube voltage and filtration, and its half-value layer."""
    import spekpy

    columns, header = [], ["energy_kev"]
    for kvp in KILOVOLTS:
        for name, filters in FILTRATIONS.items():
            spectrum = spekpy.Spek(kvp=kvp, th=12, dk=1.0, z=100.0)
            spectrum.multi_filter(filters)
            energies, fluence = spectrum.get_spectrum(edges=False)
            # spekpy's bins are centred on half keV and in photons/cm2/keV: move to whole keV by linear interpolation.
            by_energy = {e: _interpolated(e, list(energies), list(fluence)) / 100.0 for e in ENERGIES_KEV}
            columns.append([f"{by_energy[e]:.5g}" for e in ENERGIES_KEV])
            header.append(f"{kvp} kVp, {name} (HVL {spectrum.get_hvl1():.3f} mm Al)")
    rows = [[str(e), *[column[n] for column in columns]] for n, e in enumerate(ENERGIES_KEV)]
    _write(path, header, rows)


def write_heel(path: Path) -> None:
    """The signal behind 0-30 cm of water at an angle towards the anode (+) over that on the axis, at equal distance."""
    import numpy as np
    import spekpy

    from hierbmd.physics.attenuation import mass_attenuation_cm2_g
    from hierbmd.physics.spectrum import Spectrum

    def signals(anode_deg: float, kvp: float, angle_deg: float) -> np.ndarray:
        towards = np.tan(np.radians(angle_deg))
        # spekpy's x runs from the anode to the cathode.
        tube = spekpy.Spek(kvp=kvp, th=anode_deg, dk=1.0, x=-100.0 * towards, z=100.0)
        tube.multi_filter(FILTRATIONS["3.0 mm Al + 0.1 mm Cu"])
        energies, fluence = tube.get_spectrum(edges=False)
        beam = Spectrum(np.maximum(energies, 10.0), fluence * (1.0 + towards**2), "")
        unnormalised = beam.signal()
        water = mass_attenuation_cm2_g("water", beam.energy_kev)
        return np.array([np.sum(unnormalised * np.exp(-cm * water)) for cm in HEEL_WATER_CM])

    rows = []
    for anode_deg in HEEL_ANODES_DEG:
        for kvp in HEEL_KILOVOLTS:
            on_axis = signals(anode_deg, kvp, 0.0)
            for angle_deg in HEEL_ANGLES_DEG:
                ratio = signals(anode_deg, kvp, angle_deg) / on_axis
                rows.append([str(anode_deg), str(kvp), str(angle_deg), *(f"{value:.4f}" for value in ratio)])
    _write(path, ["anode_deg", "kvp", "angle_deg", *(f"water_{cm}_cm" for cm in HEEL_WATER_CM)], rows)


def _interpolated(x: float, xs: list[float], ys: list[float]) -> float:
    for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), list(zip(xs, ys, strict=True))[1:], strict=False):
        if x0 <= x <= x1:
            return float(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return 0.0


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
