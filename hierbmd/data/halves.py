"""The image that the learning stages see: one side of a hip radiograph turned to look like a right hip, or the whole
of a lumbar one.

The canonical half image is `HalfFrame.size_px` pixels of `HalfFrame.pixel_mm` on the detector, lateral on the image's
left, medial on its right: a right hip in AP. The other side is mirrored to it. A mirrored image has no rigid camera
(its determinant would be -1), so a half carries the exact camera of the image before mirroring, and the fact.

A lumbar radiograph has no side (Side.NONE): all of it is resampled to the frame, and looks as in AP, the patient's left
on the image's right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.clinical import Clinical
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.site import HIP, LUMBAR_SPINE, SkeletalSite
from hierbmd.errors import SideConflict, ViewConflict
from hierbmd.geometry import Camera, Side, View
from hierbmd.options import option

CANONICAL_SIDE = Side.RIGHT
"""The side, seen in AP, that every half image is made to look like."""

BODY_SIDES = (Side.LEFT, Side.RIGHT)

_LEAST_COVER = 0.5
_AIR_PERCENTILE = 1.0

Image = TypeVar("Image", NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64])


@dataclass(frozen=True)
class HalfFrame:
    """The lattice of a canonical half image: its size and its pixel size on the detector."""

    size_px: tuple[int, int] = option("WxH, columns and rows of one side's image", (128, 256))
    pixel_mm: tuple[float, float] = option("a half image's pixel size on the detector, du,dv in mm", (1.6, 1.6))


@dataclass(frozen=True)
class HalfCamera:
    """Where a half image is: `camera` sees the image before mirroring; `mirrored` says whether that was done."""

    camera: Camera
    side: Side
    view: View
    mirrored: bool

    def canonical(self, image: Image) -> Image:
        """An image (..., H, W) seen by `camera`, turned to the canonical look."""
        return np.ascontiguousarray(image[..., ::-1]) if self.mirrored else image

    def upright(self, image: Image) -> Image:
        """A canonical image (..., H, W) turned back to what `camera` sees; the inverse of `canonical`."""
        return self.canonical(image)

    def canonical_pixels(self, points_camera_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points (..., 3) in camera mm appear in the canonical image, (..., 2) as (u, v)."""
        pixels = self.camera.pixels_from_camera(points_camera_mm)
        if self.mirrored:
            pixels[..., 0] = self.camera.size_px[0] - 1 - pixels[..., 0]
        return pixels


@dataclass(frozen=True)
class Half:
    """One side of a radiograph in the canonical look: `pixels` (H, W) float32, bone bright, `covered` (H, W) bool.

    Pixels outside the radiograph are not covered; they hold the radiograph's air level (its first percentile).
    `clinical` is what is known of the patient, for models that ask for it.
    """

    pixels: NDArray[np.float32]
    covered: NDArray[np.bool_]
    geometry: HalfCamera
    source_isocentre_mm: float | None = None
    clinical: Clinical = field(default_factory=Clinical)

    @property
    def side(self) -> Side:
        """Which side of the patient this is."""
        return self.geometry.side


def sides_shown(radiograph: Radiograph, site: SkeletalSite = HIP) -> tuple[Side, ...]:
    """The sides of a site that a radiograph shows, left first; of a site without sides, Side.NONE.

    SideConflict when a radiograph of a paired site does not say which, or one of an unpaired site says a side.
    """
    if not site.paired:
        if radiograph.side in (None, Side.NONE):
            return (Side.NONE,)
        raise SideConflict(
            f"the radiograph shows side {radiograph.side}, the {site.name} has none", mend="side none for this site"
        )
    if radiograph.side in BODY_SIDES:
        return (radiograph.side,)
    if radiograph.side == Side.BOTH:
        return BODY_SIDES
    raise SideConflict("the radiograph does not say which side it shows", mend="give --side left, right or both")


def half_camera(
    radiograph: Radiograph,
    side: Side,
    frame: HalfFrame,
    *,
    midline_px: float | None = None,
    camera: Camera | None = None,
) -> HalfCamera:
    """The exact camera of one side's half image, without touching pixels.

    A bilateral AP or PA image is cut at `midline_px` (the image's middle by default, in pixels of the radiograph): the
    half's medial edge lies there. A unilateral image is used whole, centred, and so is that of a site without sides
    (Side.NONE). `camera` replaces the radiograph's own when its principal point is not the centre. Errors:
    SideConflict (side missing, or not in this image), ViewConflict (lateral or missing view), GeometryMissing.
    """
    side = Side(side)
    _require_frontal(radiograph.view)
    if side not in sides_shown(radiograph, LUMBAR_SPINE if side == Side.NONE else HIP):
        raise SideConflict(f"the radiograph shows side {radiograph.side}, not {side}", mend="correct --side")
    assert radiograph.view is not None
    whole = camera or radiograph.camera
    on_image_left = (side != Side.LEFT) == (radiograph.view == View.AP)
    middle_px = (radiograph.size_px[0] - 1) / 2.0
    centre_x_mm = ((middle_px if midline_px is None else midline_px) - whole.centre_px[0]) * whole.pixel_mm[0]
    if radiograph.side == Side.BOTH:
        centre_x_mm += (-0.5 if on_image_left else 0.5) * frame.size_px[0] * frame.pixel_mm[0]
    centre_y_mm = ((radiograph.size_px[1] - 1) / 2.0 - whole.centre_px[1]) * whole.pixel_mm[1]
    principal_px = (
        (frame.size_px[0] - 1) / 2.0 - centre_x_mm / frame.pixel_mm[0],
        (frame.size_px[1] - 1) / 2.0 - centre_y_mm / frame.pixel_mm[1],
    )
    exact = Camera(whole.sdd_mm, frame.size_px, frame.pixel_mm, principal_px)
    return HalfCamera(exact, side, radiograph.view, mirrored=not on_image_left)


def half_radiograph(
    radiograph: Radiograph,
    side: Side,
    frame: HalfFrame,
    *,
    midline_px: float | None = None,
    camera: Camera | None = None,
) -> Half:
    """One side of a radiograph, resampled to the frame and turned to the canonical look.

    A pixel is the mean of the radiograph over its footprint (linear interpolation where the radiograph is coarser), so
    that nothing aliases. Pixels across the midline of a bilateral image belong to the other half and are never shown.
    Errors as `half_camera`.
    """
    geometry = half_camera(radiograph, side, frame, midline_px=midline_px, camera=camera)
    whole = camera or radiograph.camera
    sums, cover = _over_footprints(radiograph.pixels, geometry.camera, whole)
    covered = cover >= _LEAST_COVER
    pixels = (sums / np.maximum(cover, 1e-12)).astype(np.float32)
    if not covered.all():
        pixels[~covered] = np.percentile(radiograph.pixels, _AIR_PERCENTILE)
    return Half(geometry.canonical(pixels), geometry.canonical(covered), geometry, radiograph.source_isocentre_mm)


def _require_frontal(view: View | None) -> None:
    if view is None:
        raise ViewConflict("the radiograph does not say its view", mend="give --view AP or PA")
    if view not in (View.AP, View.PA):
        raise ViewConflict(f"BMD is read on an AP or PA radiograph, not {view}", mend="give a frontal radiograph")


def _over_footprints(
    pixels: NDArray[np.float32], to: Camera, source: Camera
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An image (H, W) summed over each target footprint by its shares, and how much of each footprint is on the image.

    The footprints along an axis are a band of a few source pixels, so they are multiplied as sparse matrices, and only
    with the columns that any of them touches: a radiograph has tens of times the half's pixels.
    """
    from scipy.sparse import csr_array

    columns, rows = (_footprints(to, source, axis=axis) for axis in (0, 1))
    touched = np.flatnonzero(columns.any(axis=0))
    first, last = (touched[0], touched[-1] + 1) if len(touched) else (0, 0)
    strips = csr_array(rows) @ pixels[:, first:last]
    sums = (csr_array(columns[:, first:last]) @ strips.T).T
    return sums, rows.sum(axis=1)[:, None] * columns.sum(axis=1)[None, :]


def _footprints(to: Camera, source: Camera, *, axis: int) -> NDArray[np.float64]:
    """Weights (n_to, n_source): the share of each target footprint that each source pixel fills, along one axis.

    A footprint is as wide as the wider of the two pixels; rows sum to 1 inside the source and to less at its rim.
    """
    places_mm = (np.arange(to.size_px[axis]) - to.centre_px[axis]) * to.pixel_mm[axis]
    places_px = places_mm / source.pixel_mm[axis] + source.centre_px[axis]
    width_px = max(to.pixel_mm[axis] / source.pixel_mm[axis], 1.0)
    pixels = np.arange(source.size_px[axis])
    start = np.maximum(places_px[:, None] - width_px / 2, pixels[None, :] - 0.5)
    end = np.minimum(places_px[:, None] + width_px / 2, pixels[None, :] + 0.5)
    return np.asarray(np.maximum(end - start, 0.0) / width_px)
