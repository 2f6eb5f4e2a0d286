"""`hierbmd calibrate`: the line from Hounsfield units to bone mineral density, and the density volume."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig, Uncalibrated
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.calibration import Calibration
    from hierbmd.data.volume import Volume


@dataclass(frozen=True)
class Options:
    """The line rho = slope * HU + intercept of a CT, measured or given, and the CT as a density volume in mg/cm3."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    out: Path = option("folder for calibration.json, density.nii.gz and, of a measured line, calibration.png")
    phantom: str = option("the phantom in the scan: a name of the table, or the rod table of yours as .json", "")
    internal: bool = option(
        "by the patient's own air, fat, muscle, blood and bone; less sure, and marked as such", False
    )
    labels: Path | None = option("with --internal: label map that says where muscle, blood and femora are", None)
    scheme: Path | None = option("JSON {name: id} of the label map; TotalSegmentator v2 without", None)
    kvp: float | None = option("with --internal: the scan's tube voltage, where its file does not say it", None)
    slope: float | None = option("A of rho = A*HU + B in mg/cm3", None)
    intercept: float | None = option("B of rho = A*HU + B in mg/cm3", None)
    calibration: Path | None = option("a calibration.json, instead of slope and intercept", None)
    material: Literal["HA", "K2HPO4"] = option("what slope and intercept, or --internal, are calibrated to", "HA")
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd calibrate`; returns the exit status."""
    return run(parse("calibrate", Options, argv))


def run(options: Options) -> int:
    """Find or check the line, apply it and write the files; refusals are raised and leave none."""
    given = options.slope is not None and options.intercept is not None
    partly = options.slope is not None or options.intercept is not None
    ways = bool(options.phantom) + options.internal + (options.calibration is not None) + given
    if ways != 1 or (partly and not given):
        mend = "give one: --phantom NAME or FILE, --internal, --slope and --intercept, or --calibration FILE"
        raise Uncalibrated("uncalibrated", mend=mend)
    if not options.internal and (options.labels is not None or options.kvp is not None):
        raise BadConfig("--labels and --kvp are for --internal", mend="leave them out, or add --internal")
    from hierbmd.calibration.line import density_volume
    from hierbmd.io.calibration_file import write_calibration
    from hierbmd.io.ct import read_volume
    from hierbmd.io.image import write_volume

    # What needs no scan is refused before a large one is read.
    stated = None if options.phantom or options.internal else _stated(options)
    volume = read_volume(options.ct, resample_tilt=options.resample_tilt)
    calibration = stated or _measured(volume, options)
    density = density_volume(volume, calibration)
    write_volume(options.out / "density.nii.gz", density)
    if stated is None:
        from hierbmd.report.calibration import write_calibration_picture

        write_calibration_picture(options.out / "calibration.png", volume, calibration)
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
    if options.internal:
        found, by = _internal(volume, options), "internal, less sure than a phantom"
    else:
        from hierbmd.calibration.phantom import calibrate_by_phantom
        from hierbmd.io.phantom_file import named_phantom

        found = calibrate_by_phantom(volume, named_phantom(options.phantom))
        by = f"{found.phantom}, {sum(rod['read'] for rod in found.rods)} rods"
    assert found.uncertainty is not None
    print(
        f"{by}: rho = {found.slope:.4f} * HU {found.intercept:+.2f} mg/cm3 {found.material.value}, "
        f"slope +- {found.uncertainty.slope_se:.4f}, residual {found.residual_mg_cm3:.2f} mg/cm3",
        file=sys.stderr,
    )
    return found


def _internal(volume: Volume, options: Options) -> Calibration:
    from hierbmd.calibration.internal import calibrate_internally
    from hierbmd.calibration.source import stated_kvp
    from hierbmd.data.density import Material
    from hierbmd.io.labels import read_labels

    labels = None
    if options.labels is not None:
        labels = read_labels(options.labels, scheme=options.scheme, onto=volume.grid)
    kvp = options.kvp if options.kvp is not None else stated_kvp(options.ct)
    return calibrate_internally(volume, labels, material=Material(options.material), kvp=kvp)
