"""`hierbmd calibrate`: the line from Hounsfield units to bone mineral density, and the density volume."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hierbmd.cli._options import parse
from hierbmd.errors import Uncalibrated
from hierbmd.options import option


@dataclass(frozen=True)
class Options:
    """The line rho = slope * HU + intercept of a CT, checked, and the CT as a density volume in mg/cm3."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    out: Path = option("folder for calibration.json and density.nii.gz")
    slope: float | None = option("A of rho = A*HU + B in mg/cm3", None)
    intercept: float | None = option("B of rho = A*HU + B in mg/cm3", None)
    calibration: Path | None = option("a calibration.json, instead of slope and intercept", None)
    material: Literal["HA", "K2HPO4"] = option("what slope and intercept are calibrated to", "HA")
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd calibrate`; returns the exit status."""
    return run(parse("calibrate", Options, argv))


def run(options: Options) -> int:
    """Check the line, apply it and write both files; refusals are raised."""
    given = options.slope is not None and options.intercept is not None
    partly = options.slope is not None or options.intercept is not None
    if (options.calibration is None) != given or (partly and not given):
        raise Uncalibrated("uncalibrated", mend="give --slope and --intercept, or --calibration FILE, and not both")
    from hierbmd.calibration.line import density_volume, given_calibration, require_plausible
    from hierbmd.data.density import Material
    from hierbmd.io.calibration_file import read_calibration, write_calibration
    from hierbmd.io.ct import read_volume
    from hierbmd.io.image import write_volume

    if options.calibration is not None:
        calibration = read_calibration(options.calibration)
        require_plausible(calibration, options.calibration)
    else:
        assert options.slope is not None
        assert options.intercept is not None
        calibration = given_calibration(options.slope, options.intercept, material=Material(options.material))
    density = density_volume(read_volume(options.ct, resample_tilt=options.resample_tilt), calibration)
    write_volume(options.out / "density.nii.gz", density)
    write_calibration(options.out / "calibration.json", calibration)
    print(f"density in {density.unit}: {options.out}. Research use only.", file=sys.stderr)
    return 0
