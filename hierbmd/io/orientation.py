"""How an image hangs: from the way its rows and columns run in the patient to the camera frame of its view."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import SideConflict, ViewConflict
from hierbmd.geometry import View

OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_WORLD_LETTERS = ("LR", "PA", "HF")


def view_orientation(view: View) -> tuple[str, str]:
    """The patient directions along the rows and down the columns of a view's camera frame: AP is ("L", "F")."""
    rows = view.camera_from_world_rotation
    return letter_of(rows[0]), letter_of(rows[1])


def letter_of(direction: NDArray[np.float64]) -> str:
    """The patient direction, one letter of LRAPHF as DICOM writes it, that a vector in LPS runs nearest to."""
    axis = int(np.argmax(np.abs(direction)))
    return _WORLD_LETTERS[axis][0 if direction[axis] > 0 else 1]


def facing_detector(
    pixels: NDArray[Any],
    pixel_mm: tuple[float, float] | None,
    *,
    view: View,
    orientation: tuple[str, str] | None,
    where: object,
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """The image (H, W) and its (du, dv) turned so that rows and columns run as in the camera frame of its view.

    `orientation` is what the file says of them. Where nothing says it, an AP image hangs as AP images are read, with
    the patient's left on the right; a PA or lateral one hangs either way, so it is refused (SideConflict).
    ViewConflict when the orientation cannot be of this view.
    """
    wanted = view_orientation(view)
    if orientation is None:
        if view is not View.AP:
            raise SideConflict(
                f"nothing says which way the rows of this {view} image run in the patient",
                where=where,
                mend=f"give --patient-orientation, {','.join(wanted)} where the image is as the detector sees it",
            )
        return pixels, pixel_mm
    along, down = (code[:1] for code in orientation)
    possible = {frozenset((axis, OPPOSITE[axis])) for axis in wanted}
    if {frozenset((axis, OPPOSITE.get(axis, axis))) for axis in (along, down)} != possible:
        raise ViewConflict(
            f"patient orientation {','.join(orientation)} is not that of a {view} view",
            where=where,
            mend="one is wrong",
        )
    if along not in (wanted[0], OPPOSITE[wanted[0]]):
        pixels, along, down = pixels.T, down, along
        pixel_mm = None if pixel_mm is None else (pixel_mm[1], pixel_mm[0])
    return pixels[:: 1 if down == wanted[1] else -1, :: 1 if along == wanted[0] else -1], pixel_mm
