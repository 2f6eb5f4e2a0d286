"""`hierbmd prepare`: training pairs from a manifest of CTs and radiographs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.anatomy.atlas_options import ATLAS_NAMES
from hierbmd.cli._options import parse
from hierbmd.cli._radiograph import RadiographFlags
from hierbmd.cohort import PrepareOptions, prepare
from hierbmd.errors import BadConfig
from hierbmd.options import option, part

if TYPE_CHECKING:
    from hierbmd.data.calibration import Calibration

_SETTINGS = (
    "row.scheme",
    "row.pairing.frame.size_px",
    "row.pairing.frame.pixel_mm",
    "row.pairing.region.region",
    "row.pairing.region.below_trochanter_mm",
    "row.pairing.keep_metal",
    "row.pairing.structures",
    "row.pairing.registration.search",
    "row.pairing.registration.starts",
    "row.pairing.registration.start_rotation_deg",
    "row.pairing.registration.start_in_plane_mm",
    "row.pairing.registration.start_depth_mm",
    "row.pairing.registration.bound_rotation_deg",
    "row.pairing.registration.bound_in_plane_mm",
    "row.pairing.registration.bound_depth_mm",
    "row.resample_tilt",
    "row.atlas.atlas",
    "row.atlas.spacing_mm",
    "row.atlas.control_points_mm",
    "row.atlas.refine",
    "row.atlas.by_bone",
    "row.atlas.threads",
    "row.jitter.pairs",
    "split_shares",
    "split_seed",
    "decisions",
    "salt",
    "workers",
    "row_limit_s",
    "scheduler",
)
_NAMES = {
    "row.pairing.frame.size_px": "frame_px",
    "row.pairing.frame.pixel_mm": "frame_pixel_mm",
    "row.jitter.pairs": "jittered",
    **{f"row.atlas.{field}": flag for field, flag in ATLAS_NAMES.items()},
}


@dataclass(frozen=True, kw_only=True)
class Options(RadiographFlags):
    """Training pairs from a manifest: calibrate, measure, register, project. Resumable; refusals are recorded."""

    manifest: Path = option("CSV: subject, ct, labels, radiograph, view, side, ... (see docs)", positional=True)
    out: Path = option(
        "folder for the data set: dataset.json, pairs.csv, pairs/, qc.csv, quality.html, review.html ..."
    )
    slope: float | None = option("A of rho = A*HU + B in mg/cm3, for rows without a calibration file", None)
    intercept: float | None = option("B of rho = A*HU + B in mg/cm3, for rows without a calibration file", None)
    material: Literal["HA", "K2HPO4"] = option("what --slope and --intercept are calibrated to", "HA")
    prepare: PrepareOptions = field(default_factory=PrepareOptions, metadata=part(only=_SETTINGS, names=_NAMES))


def main(argv: list[str]) -> int:
    """Run `hierbmd prepare`; returns the exit status."""
    return run(parse("prepare", Options, argv))


def run(options: Options) -> int:
    """Prepare with progress on stderr; refusals of single rows are recorded, others raised."""
    from hierbmd.cli._progress import progress

    row = replace(options.prepare.row, radiograph=options.stated, calibration=_calibration(options))
    settings = replace(options.prepare, row=row)
    with progress("prepare") as advance:
        done = prepare(options.manifest, options.out, settings, progress=advance)
    kept = f", {done.kept_tasks} rows were done already" if done.kept_tasks else ""
    print(f"{done.pairs} pairs, {done.refusals} refusals{kept}: {options.out}", file=sys.stderr)
    if done.stale_decisions:
        print(f"{done.stale_decisions} decisions are on pairs that are not of this run", file=sys.stderr)
    print(f"calibrations, labels, regions: {options.out / 'quality.html'}", file=sys.stderr)
    print(f"accept or reject them: {options.out / 'review.html'}", file=sys.stderr)
    if done.refusals:
        print(f"why: {options.out / 'refusals.csv'}", file=sys.stderr)
    return 0


def _calibration(options: Options) -> Calibration | None:
    from hierbmd.calibration.line import given_calibration
    from hierbmd.data.density import Material

    if options.slope is None and options.intercept is None:
        return None
    if options.slope is None or options.intercept is None:
        raise BadConfig("--slope and --intercept go together", mend="give both or neither")
    return given_calibration(options.slope, options.intercept, material=Material(options.material))
