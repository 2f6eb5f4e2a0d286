"""`hierbmd calibrate`: the line from Hounsfield units to bone mineral density, and the density volume."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.errors import Uncalibrated
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.calibration import Calibration
    from hierbmd.data.volume import Volume


@dataclass(frozen=True)
class Options:
    """The line rho = slope * HU + intercept of a CT, measured or given, and the CT as a density volume in mg/cm3."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    out: Path = option("folder for calibration.json and density.nii.gz")
    phantom: str = option("the phantom in the scan: a name of the table, or the rod table of yours as .json", "")
    slope: float | None = option("A of rho = A*HU + B in mg/cm3", None)
    intercept: float | None = option("B of rho = A*HU + B in mg/cm3", None)
    calibration: Path | None = option("a calibration.json, instead of slope and intercept", None)
    material: Literal["HA", "K2HPO4"] = option("what slope and intercept are calibrated to", "HA")
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd calibrate`; returns the exit status."""
    return run(parse("calibrate", Options, argv))


def run(options: Options) -> int:
    """Find or check the line, apply it and write the files; refusals are raised and leave none."""
    given = options.slope is not None and options.intercept is not None
    partly = options.slope is not None or options.intercept is not None
    if bool(options.phantom) + (options.calibration is not None) + given != 1 or (partly and not given):
        mend = "give one: --phantom NAME or FILE, --slope and --intercept, or --calibration FILE"
        raise Uncalibrated("uncalibrated", mend=mend)
    from hierbmd.calibration.line import density_volume
    from hierbmd.io.calibration_file import write_calibration
    from hierbmd.io.ct import read_volume
    from hierbmd.io.image import write_volume

    # What needs no scan is refused before a large one is read.
    stated = None if options.phantom else _stated(options)
    volume = read_volume(options.ct, resample_tilt=options.resample_tilt)
    calibration = stated or _measured(volume, options)
    density = density_volume(volume, calibration)
    write_volume(options.out / "density.nii.gz", density)
    write_calibration(options.out / "calibration.json", calibration)
    print(f"density in {density.unit}: {options.out}. Research use only.", file=sys.stderr)
    return 0


def _stated(options: Options) -> Calibration:
    from hierbmd.calibration.line import given_calibration, require_plausible
    from hierbmd.data.density import Material
    from hierbmd.io.calibration_file import read_calibration

    if options.calibration is not None:
        calibration = read_calibration(options.calibration)
        require_plausible(calibration, options.calibration)
        return calibration
    assert options.slope is not None
    assert options.intercept is not None
    return given_calibration(options.slope, options.intercept, material=Material(options.material))


def _measured(volume: Volume, options: Options) -> Calibration:
    from hierbmd.calibration.phantom import calibrate_by_phantom
    from hierbmd.io.phantom_file import named_phantom

    found = calibrate_by_phantom(volume, named_phantom(options.phantom))
    assert found.uncertainty is not None
    read = sum(rod["read"] for rod in found.rods)
    print(
        f"{found.phantom}: {read} rods, rho = {found.slope:.4f} * HU {found.intercept:+.2f} mg/cm3 "
        f"{found.material.value}, "
        f"slope +- {found.uncertainty.slope_se:.4f}, residual {found.residual_mg_cm3:.2f} mg/cm3",
        file=sys.stderr,
    )
    return found
