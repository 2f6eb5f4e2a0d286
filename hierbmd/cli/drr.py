"""`hierbmd drr`: virtual X-rays of a CT."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.cli._options import parse
from hierbmd.drr.options import Backend, BeamName, QuantityName, ViewName
from hierbmd.errors import BadConfig, GeometryMissing, RaysMissVolume, Uncalibrated
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.calibration import Calibration
    from hierbmd.data.volume import Volume
    from hierbmd.drr.render import Rendered
    from hierbmd.drr.scene import Scene
    from hierbmd.geometry import ProjectionGeometry
    from hierbmd.rigid import Vector

_NAMED = 10
"""How many poses an error names; its table has them all."""


@dataclass(frozen=True)
class Options:
    """Virtual X-rays (DRRs) of a CT: attenuation, areal density in g/cm2 or thickness in mm, whole or by structure."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    out: Path = option("folder for drr_0000.mha, .png, .json and so on")
    labels: Path | None = option("label map of the CT's structures", None)
    scheme: Path | None = option("JSON {name: id} of the label map; TotalSegmentator v2 without", None)
    structures: tuple[str, ...] = option("NAME,...: one image each; with --labels alone, all that are present", ())
    quantity: QuantityName = option("what a pixel is: integral of attenuation, g/cm2, or mm", "attenuation")
    calibration: Path | None = option("calibration.json, for density", None)
    slope: float | None = option("A of rho = A*HU + B in mg/cm3 HA, for density", None)
    intercept: float | None = option("B of rho = A*HU + B in mg/cm3 HA, for density", None)
    geometry: Path | None = option("geometry file: camera, beam and pose, instead of the six below", None)
    view: ViewName | None = option("AP (without), PA or LAT (left lateral)", None)
    beam: BeamName | None = option("cone (without); parallel; slot: a fan across that moves along the patient", None)
    sdd_mm: float | None = option("distance from the source to the detector", None)
    source_isocenter_mm: float | None = option("distance from the source, or its plane, to the isocentre", None)
    size: tuple[int, int] | None = option("WxH, the detector's columns and rows", None)
    pixel_mm: tuple[float, ...] | None = option("pixel size on the detector, one number or du,dv", None)
    isocenter_mm: tuple[float, float, float] | None = option("x,y,z in LPS; the volume's centre without", None)
    pose: tuple[float, float, float, float, float, float] | None = option(
        "rx,ry,rz,tx,ty,tz: degrees and mm, a motion of the patient about the isocentre in camera axes", None
    )
    poses: Path | None = option("CSV of such poses, one image each", None)
    backend: Backend = option("what projects: the fastest here, or one by name", "auto")
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd drr`; returns the exit status."""
    return run(parse("drr", Options, argv))


def run(options: Options) -> int:
    """Read, project and write; refusals are raised."""
    _check(options)
    from hierbmd.drr.projector import make_projector
    from hierbmd.drr.render import render
    from hierbmd.io.ct import read_volume

    volume = read_volume(options.ct, resample_tilt=options.resample_tilt)
    geometries = _geometries(options, volume)
    projector = make_projector(_scene(options, volume), options.backend)
    rendered = _follow(render(projector, geometries, options.out), len(geometries))
    _say(rendered, projector.backend)
    _refuse_missed(rendered, options.out)
    return 0


def _check(options: Options) -> None:
    """Refuse what can be refused before the CT is read."""
    given = options.calibration is not None
    line = options.slope is not None or options.intercept is not None
    if options.quantity == "density" and not given and (options.slope is None or options.intercept is None):
        raise Uncalibrated(
            "uncalibrated: density needs a calibration", mend="--calibration, or --slope and --intercept"
        )
    if options.quantity != "density" and (given or line):
        raise BadConfig("a calibration without --quantity density", mend="add --quantity density")
    if given and line:
        raise BadConfig("two calibrations", mend="--calibration, or --slope and --intercept")
    if options.structures and options.labels is None:
        raise BadConfig("--structures without --labels", mend="give the label map")
    if options.pose is not None and options.poses is not None:
        raise BadConfig("--pose and --poses", mend="give one")
    camera = _camera_flags(options)
    beside = camera | {"--view": options.view, "--beam": options.beam}
    given_beside = [flag for flag, value in beside.items() if value is not None]
    if options.geometry is not None and given_beside:
        raise BadConfig("--geometry beside " + ", ".join(given_beside), mend="give one")
    missing = [flag for flag, value in camera.items() if value is None]
    if options.geometry is None and missing:
        raise GeometryMissing("geometry missing", mend="give --geometry, or " + " ".join(missing))


def _camera_flags(options: Options) -> dict[str, object]:
    return {
        "--sdd-mm": options.sdd_mm,
        "--source-isocenter-mm": options.source_isocenter_mm,
        "--size": options.size,
        "--pixel-mm": options.pixel_mm,
    }


def _geometries(options: Options, volume: Volume) -> list[ProjectionGeometry]:
    """One geometry a pose: the file's or the flags', after the motion about the isocentre."""
    import numpy as np

    from hierbmd.drr.poses import geometry_after, motion_from_six, read_poses
    from hierbmd.geometry import Motion

    motions: tuple[Motion, ...] = (Motion(),)
    if options.pose is not None:
        motions = (motion_from_six(options.pose, "--pose"),)
    if options.poses is not None:
        motions = read_poses(options.poses)
    isocentre = volume.grid.centre_world_mm if options.isocenter_mm is None else np.array(options.isocenter_mm)
    start = _start(options, isocentre)
    return [geometry_after(start, motion, isocentre) for motion in motions]


def _start(options: Options, isocentre_world_mm: Vector) -> ProjectionGeometry:
    from hierbmd.geometry import Beam, Camera, Placement, ProjectionGeometry, View
    from hierbmd.io.geometry_file import check_ranges, read_geometry

    if options.geometry is not None:
        return read_geometry(options.geometry)
    assert options.sdd_mm is not None
    assert options.source_isocenter_mm is not None
    assert options.size is not None
    assert options.pixel_mm is not None
    if len(options.pixel_mm) > 2:
        raise GeometryMissing(f"{len(options.pixel_mm)} pixel sizes", mend="--pixel-mm takes one number or du,dv")
    pixel_mm = (options.pixel_mm[0], options.pixel_mm[-1])
    check_ranges(options.sdd_mm, pixel_mm, "--sdd-mm, --pixel-mm")
    camera = Camera(options.sdd_mm, options.size, pixel_mm, beam=Beam(options.beam or "cone"))
    placement = Placement(View(options.view or "AP"), isocentre_world_mm, options.source_isocenter_mm)
    return ProjectionGeometry(camera, placement.camera_from_world(), placement.view)


def _scene(options: Options, volume: Volume) -> Scene:
    from hierbmd.drr.scene import make_scene
    from hierbmd.io.labels import read_labels

    labels, structures = None, options.structures
    if options.labels is not None:
        labels = read_labels(options.labels, scheme=options.scheme, onto=volume.grid)
        structures = structures or labels.names_present
    calibration = _calibration(options)
    scene = make_scene(volume, labels, quantity=options.quantity, structures=structures, calibration=calibration)
    return scene if calibration is None else replace(scene, calibrated_by=calibration.method)


def _calibration(options: Options) -> Calibration | None:
    if options.quantity != "density":
        return None
    if options.calibration is not None:
        from hierbmd.io.calibration_file import read_calibration

        return read_calibration(options.calibration)
    from hierbmd.calibration.line import given_calibration

    assert options.slope is not None
    assert options.intercept is not None
    return given_calibration(options.slope, options.intercept)


def _follow(rendered: Iterable[Rendered], count: int) -> list[Rendered]:
    """Show progress, time left and throughput on stderr while the poses are projected; what became of each."""
    from hierbmd.cli._progress import progress

    done: list[Rendered] = []
    fresh = 0
    started = time.perf_counter()
    with progress("drr") if count > 1 else nullcontext(lambda *_: None) as report:
        for one in rendered:
            done.append(one)
            fresh += not one.resumed
            # What was there already takes no time, and would spoil the estimate.
            if fresh:
                report(len(done), count, f"{fresh / (time.perf_counter() - started):.1f} poses/s")
    return done


def _say(rendered: Sequence[Rendered], backend: str) -> None:
    fresh = [one.seconds for one in rendered if not one.resumed and not one.missed]
    resumed = sum(one.resumed for one in rendered)
    there = f", {resumed} already there" if resumed else ""
    per_pose = f", {1e3 * sum(fresh) / len(fresh):.1f} ms a pose to project" if fresh else ""
    if fresh or resumed:
        print(f"drr: {len(fresh)} projected by {backend}{per_pose}{there}", file=sys.stderr)


def _refuse_missed(rendered: Sequence[Rendered], out: Path) -> None:
    """RaysMissVolume where poses missed, after the others were written: refusals.csv has them all."""
    from hierbmd.io.tables import write_table

    missed = {one.index: one.missed for one in rendered if one.missed}
    if len(missed) == len(rendered):
        first = next(iter(missed.values()))
        raise first if len(missed) == 1 else RaysMissVolume(f"{first.what} in all {len(missed)} poses", mend=first.mend)
    refusals = out / "refusals.csv"
    if missed or refusals.exists():
        rows = [{"pose": i, "error_class": type(why).__name__, "reason": why.what} for i, why in missed.items()]
        write_table(refusals, ("pose", "error_class", "reason"), rows)
    if missed:
        numbers = ", ".join(map(str, list(missed)[:_NAMED])) + (", ..." if len(missed) > _NAMED else "")
        raise RaysMissVolume(
            f"rays miss the volume in {len(missed)} of {len(rendered)} poses, counted from 0: {numbers}",
            where=refusals,
            mend="the other poses are written",
        )
