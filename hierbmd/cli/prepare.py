"""`hierbmd prepare`: training pairs from a manifest of CTs and radiographs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.cli._radiograph import RadiographFlags
from hierbmd.errors import BadConfig
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.calibration import Calibration
    from hierbmd.pairing.row import RowOptions


@dataclass(frozen=True, kw_only=True)
class Options(RadiographFlags):
    """Training pairs from a manifest: calibrate, measure, register, project. Resumable; refusals are recorded."""

    manifest: Path = option("CSV: subject, ct, labels, radiograph, view, side, ... (see docs)", positional=True)
    out: Path = option("folder for the data set: dataset.json, pairs.csv, pairs/, qc.csv, refusals.csv, review.html")
    slope: float | None = option("A of rho = A*HU + B in mg/cm3, for rows without a calibration file", None)
    intercept: float | None = option("B of rho = A*HU + B in mg/cm3, for rows without a calibration file", None)
    material: Literal["HA", "K2HPO4"] = option("what --slope and --intercept are calibrated to", "HA")
    scheme: Path | None = option("JSON {name: id} of the label maps; TotalSegmentator v2 without", None)
    frame_px: tuple[int, int] = option("WxH, a half image's columns and rows", (128, 256))
    frame_pixel_mm: tuple[float, float] = option("a half image's pixel size on the detector, du,dv", (1.6, 1.6))
    below_trochanter_mm: float = option("the region ends this far below the lesser trochanter", 3.0)
    keep_metal: bool = option("keep sides with metal in the bone (flagged) instead of refusing them", False)
    starts: int = option("registration: how many starts around the given one", 6)
    resample_tilt: bool = option("resample CTs with gantry tilt instead of refusing them", False)
    split_shares: tuple[float, float, float] = option(
        "train,val,test: shares of the subjects that have no split", (0.7, 0.1, 0.2)
    )
    split_seed: int = option("seed of that split", 0)
    decisions: Path | None = option("what a person saved on OUT/review.html: rejected pairs are refused", None)
    workers: int = option("processes; 0 takes every CPU. The files do not depend on it", 1)
    scheduler: str | None = option("address of a Dask cluster that sees the same files, in place of --workers", None)


def main(argv: list[str]) -> int:
    """Run `hierbmd prepare`; returns the exit status."""
    return run(parse("prepare", Options, argv))


def run(options: Options) -> int:
    """Prepare with progress on stderr; refusals of single rows are recorded, others raised."""
    if options.workers < 0:
        raise BadConfig("--workers is below zero", mend="0 takes every CPU")
    from hierbmd.cli._progress import progress
    from hierbmd.cohort import PrepareOptions, prepare

    settings = PrepareOptions(
        row=_row_options(options),
        split_shares=options.split_shares,
        split_seed=options.split_seed,
        workers=options.workers,
        scheduler=options.scheduler,
        decisions=options.decisions,
    )
    with progress("prepare") as advance:
        done = prepare(options.manifest, options.out, settings, progress=advance)
    kept = f", {done.kept_tasks} rows were done already" if done.kept_tasks else ""
    print(f"{done.pairs} pairs, {done.refusals} refusals{kept}: {options.out}", file=sys.stderr)
    if done.stale_decisions:
        print(f"{done.stale_decisions} decisions are on pairs that are not of this run", file=sys.stderr)
    print(f"accept or reject them: {options.out / 'review.html'}", file=sys.stderr)
    if done.refusals:
        print(f"why: {options.out / 'refusals.csv'}", file=sys.stderr)
    return 0


def _row_options(options: Options) -> RowOptions:
    from hierbmd.anatomy.regions import RegionOptions
    from hierbmd.data.halves import HalfFrame
    from hierbmd.pairing.make import PairingOptions
    from hierbmd.pairing.row import RowOptions
    from hierbmd.registration.options import RegistrationOptions

    return RowOptions(
        pairing=PairingOptions(
            frame=HalfFrame(options.frame_px, options.frame_pixel_mm),
            region=RegionOptions(below_trochanter_mm=options.below_trochanter_mm),
            registration=RegistrationOptions(starts=options.starts),
            keep_metal=options.keep_metal,
        ),
        radiograph=options.stated,
        calibration=_calibration(options),
        scheme=options.scheme,
        resample_tilt=options.resample_tilt,
    )


def _calibration(options: Options) -> Calibration | None:
    from hierbmd.calibration.line import given_calibration
    from hierbmd.data.density import Material

    if options.slope is None and options.intercept is None:
        return None
    if options.slope is None or options.intercept is None:
        raise BadConfig("--slope and --intercept go together", mend="give both or neither")
    return given_calibration(options.slope, options.intercept, material=Material(options.material))
