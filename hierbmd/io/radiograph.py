"""The one reader of radiographs: DICOM, PNG, TIFF, JPEG or MHA in, bone bright out.

A file is first read for what it states; options then say what it does not. What tells patients apart (polarity, view,
side) is refused where file and option disagree; of two numbers the option's is taken, and logged.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.radiograph import Radiograph
from hierbmd.errors import PolarityUnknown, SideConflict, SpacingConflict, ViewConflict
from hierbmd.geometry import Beam, Side, View
from hierbmd.io import guards
from hierbmd.io.hounsfield import require_finite
from hierbmd.io.orientation import facing_detector
from hierbmd.options import option

_log = logging.getLogger(__name__)

KIND = "radiograph"
Polarity = Literal["bright-bone", "dark-bone"]
Response = Literal["log", "linear"]

_SAME_SHARE = 0.01


@dataclass(frozen=True)
class RadiographOptions:
    """What a radiograph's file does not say.

    `response` "linear" is detected intensity, turned into -log(intensity); "log" is what already grows with absorption
    or is processed for display. `patient_orientation` is DICOM's, the patient's directions along a row and down a
    column: "L,F" has the patient's left on the right.
    """

    polarity: Polarity | None = option("whether bone is bright or dark in the stored image", None)
    response: Response | None = option("log (also display images) or linear intensity; default log", None)
    pixel_mm: tuple[float, float] | None = option("pixel size on the detector, du,dv in mm", None)
    sdd_mm: float | None = option("source-detector distance in mm", None)
    source_isocentre_mm: float | None = option("source-patient distance in mm", None)
    view: View | None = option("AP, PA or LAT", None)
    side: Side | None = option("left, right, both or none", None)
    patient_orientation: str | None = option("patient directions along rows and down columns, such as L,F", None)
    max_gib: float = option("how much a file may expand to, in GiB", guards.DEFAULT_MAX_GIB)


@dataclass(frozen=True)
class StatedSpacing:
    """A pixel size on the detector, (du, dv) in mm, and the tag it came from."""

    tag: str
    pixel_mm: tuple[float, float]


@dataclass(frozen=True)
class StatedRadiograph:
    """What a file says, before any option; None where it is silent.

    `stored` (H, W) float32 is after the Modality LUT and before any VOI window; `stored_range` is what its bits can
    hold, on the same scale. `view_text` and `side_text` are the file's own words.
    """

    stored: NDArray[np.float32]
    stored_range: tuple[float, float]
    file_format: str
    bits_stored: int
    transfer_syntax: str = ""
    bone_bright: bool | None = None
    polarity_source: str = ""
    response: Response | None = None
    spacings: tuple[StatedSpacing, ...] = ()
    sdd_mm: float | None = None
    source_isocentre_mm: float | None = None
    view: View | None = None
    view_text: str = ""
    side: Side | None = None
    side_text: str = ""
    patient_orientation: tuple[str, str] | None = None
    notes: tuple[str, ...] = field(default=())
    burned_in_annotation: bool = False
    beam: Beam = Beam.CONE


def read_radiograph(path: str | Path, options: RadiographOptions | None = None) -> Radiograph:
    """Read a radiograph with bone bright, in the frame of its view: an AP image has the patient's left on its right.

    An image stored mirrored or turned against its view's camera frame, as its patient orientation says, is turned back
    (a PA film hung the usual way is stored with the patient's left on the right; the camera sees it on the left).
    DICOM's Modality LUT is applied; VOI windows and presentation LUTs are not, for they are for the eye. Spacing and
    distances stay None where neither file nor option gives them.

    Raises UnreadableFile, OversizedFile, MissingExtra, NonFiniteVoxels, PolarityUnknown, SpacingConflict, ViewConflict
    and SideConflict.
    """
    options = options or RadiographOptions()
    return resolve(read_stated(path, max_gib=options.max_gib), options, where=path)


def read_wanted_side(path: str | Path, options: RadiographOptions) -> Radiograph:
    """As `read_radiograph`, but a file that shows both sides does not contradict an option that wants one of them."""
    stated = read_stated(path, max_gib=options.max_gib)
    if stated.side == Side.BOTH and options.side in (Side.LEFT, Side.RIGHT):
        options = replace(options, side=None)
    return resolve(stated, options, where=path)


def read_stated(path: str | Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> StatedRadiograph:
    """Read what a radiograph file says of itself; refuses damaged files and such as contradict themselves."""
    file = guards.require_file(KIND, path)
    from hierbmd.io import dicom_file

    if dicom_file.has_dicom_magic(file):
        from hierbmd.io.radiograph_dicom import read_stated_dicom

        stated = read_stated_dicom(file, max_gib=max_gib)
    else:
        from hierbmd.io.radiograph_picture import read_stated_picture

        stated = read_stated_picture(file, max_gib=max_gib)
    require_finite(stated.stored, path)
    return stated


def resolve(stated: StatedRadiograph, options: RadiographOptions, *, where: object) -> Radiograph:
    """The radiograph that a file's own words and the options make together; the conflicts of `read_radiograph`."""
    view = _view(stated, options, where)
    side = _side(stated, options, where)
    pixel_mm = _pixel_mm(stated, options, where)
    pixels = absorption(stated, options, where=where)
    orientation = _orientation(stated, options, where)
    if view is not None:
        pixels, pixel_mm = facing_detector(pixels, pixel_mm, view=view, orientation=orientation, where=where)
    return Radiograph(
        pixels=np.ascontiguousarray(pixels, dtype=np.float32),
        pixel_mm=pixel_mm,
        sdd_mm=_distance("source-detector", stated.sdd_mm, options.sdd_mm, where),
        source_isocentre_mm=_distance("source-patient", stated.source_isocentre_mm, options.source_isocentre_mm, where),
        view=view,
        side=side,
        burned_in_annotation=stated.burned_in_annotation,
        beam=stated.beam,
    )


def absorption(stated: StatedRadiograph, options: RadiographOptions, *, where: object) -> NDArray[np.float32]:
    """The pixels, larger where more was absorbed; PolarityUnknown when nothing says which way they run.

    Linear intensity I becomes -log(I / largest I), with I no less than half a stored step.
    """
    said = None if options.polarity is None else options.polarity == "bright-bone"
    if stated.bone_bright is not None and said is not None and said != stated.bone_bright:
        raise PolarityUnknown(
            f"polarity stated twice: {stated.polarity_source} in the file, {options.polarity} as an option",
            where=where,
            mend="drop the option, or correct the file",
        )
    bone_bright = stated.bone_bright if said is None else said
    if bone_bright is None:
        raise PolarityUnknown("polarity not stated", where=where, mend="give --polarity bright-bone or dark-bone")
    low, high = stated.stored_range
    if (options.response or stated.response or "log") == "log":
        return stated.stored if bone_bright else np.float32(low + high) - stated.stored
    intensity = np.float32(high) - stated.stored if bone_bright else stated.stored - np.float32(low)
    step = (high - low) / max(2.0**stated.bits_stored - 1.0, 1.0)
    brightest = max(float(intensity.max()), step)
    return np.asarray(-np.log(np.maximum(intensity, 0.5 * step) / brightest), dtype=np.float32)


def _view(stated: StatedRadiograph, options: RadiographOptions, where: object) -> View | None:
    if options.view is not None and stated.view_text and options.view != stated.view:
        raise ViewConflict(
            f"the file says view {stated.view_text}, the option {options.view}",
            where=where,
            mend="one of them is wrong",
        )
    return options.view or stated.view


def _side(stated: StatedRadiograph, options: RadiographOptions, where: object) -> Side | None:
    if options.side is not None and stated.side not in (None, Side.NONE, options.side):
        raise SideConflict(
            f"the file says side {stated.side_text}, the option {options.side}",
            where=where,
            mend="one of them is wrong",
        )
    return stated.side if options.side is None else options.side


def _pixel_mm(stated: StatedRadiograph, options: RadiographOptions, where: object) -> tuple[float, float] | None:
    if options.pixel_mm is not None:
        given = (float(options.pixel_mm[0]), float(options.pixel_mm[1]))
        for spacing in stated.spacings:
            if not _same(spacing.pixel_mm, given):
                _log.warning("%s: --pixel-mm %s taken instead of %s %s", where, given, spacing.tag, spacing.pixel_mm)
        return given
    if len(stated.spacings) > 1 and not _same(stated.spacings[0].pixel_mm, stated.spacings[1].pixel_mm):
        first, second = stated.spacings[:2]
        raise SpacingConflict(
            f"{first.tag} {_pair(first.pixel_mm)} and {second.tag} {_pair(second.pixel_mm)} mm disagree",
            where=where,
            mend="give --pixel-mm, the pixel size on the detector",
        )
    return stated.spacings[0].pixel_mm if stated.spacings else None


def _orientation(stated: StatedRadiograph, options: RadiographOptions, where: object) -> tuple[str, str] | None:
    if options.patient_orientation is None:
        return stated.patient_orientation
    parts = options.patient_orientation.upper().replace("\\", ",").split(",")
    given = (parts[0].strip(), parts[-1].strip())
    if stated.patient_orientation is not None and [c[:1] for c in given] != [c[:1] for c in stated.patient_orientation]:
        raise SideConflict(
            f"the file says patient orientation {','.join(stated.patient_orientation)}, the option {','.join(given)}",
            where=where,
            mend="one of them is wrong",
        )
    return given


def _distance(name: str, stated_mm: float | None, given_mm: float | None, where: object) -> float | None:
    if given_mm is None:
        return stated_mm
    if stated_mm is not None and abs(stated_mm - given_mm) > _SAME_SHARE * stated_mm:
        _log.warning("%s: %s distance %g mm taken instead of the file's %g mm", where, name, given_mm, stated_mm)
    return float(given_mm)


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return bool(np.allclose(a, b, rtol=_SAME_SHARE, atol=0))


def _pair(pixel_mm: tuple[float, float]) -> str:
    return f"{pixel_mm[0]:.4g} x {pixel_mm[1]:.4g}"
