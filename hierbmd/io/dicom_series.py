"""A CT series in a folder of DICOM files, in any order of files: checked, sorted by position, placed in the world."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import BadAffine, MixedSeries, NotHounsfield, RescaleMissing, SliceGap
from hierbmd.geometry import Grid
from hierbmd.io import dicom_file, guards
from hierbmd.rigid import Matrix, Vector

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

KIND = "CT"

_OTHER_SUFFIXES = {".txt", ".csv", ".tsv", ".json", ".xml", ".md", ".pdf", ".html", ".htm", ".png", ".jpg", ".ini"}
_OTHER_NAMES = {"dicomdir", "license", "readme", "thumbs.db", "lockfile", "version"}
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
_SAME_PLACE_MM = 1e-3
_UNEVEN_SHARE = 0.1
_UNEVEN_MM = 0.05


@dataclass(frozen=True)
class Slice:
    """What one file's header says of its slice; positions and spacing in LPS mm, spacing as (row, column) distance."""

    path: Path
    series_uid: str
    shape: tuple[int, int]
    position_mm: Vector
    row_direction: Vector
    column_direction: Vector
    spacing_mm: Vector
    slope: float
    intercept: float

    @property
    def normal(self) -> Vector:
        """The unit vector along which slices are sorted."""
        return np.cross(self.row_direction, self.column_direction)


@dataclass(frozen=True)
class Series:
    """A checked series: slices sorted along their normal, and the grid with axes (column, row, slice)."""

    slices: tuple[Slice, ...]
    grid: Grid


def read_series(folder: str | Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> tuple[NDArray[np.float32], Grid]:
    """The CT of a DICOM folder: values (columns, rows, slices) float32 after each slice's rescale, and the grid.

    Raises what `find_series` and `dicom_file.decode_pixels` raise, and OversizedFile when the whole passes `max_gib`.
    """
    series = find_series(folder, max_gib=max_gib)
    guards.require_within(int(np.prod(series.grid.shape, dtype=object)) * 4, max_gib, folder)
    _require_room(series, folder)
    values = np.empty(series.grid.shape, dtype=np.float32)
    for k, one in enumerate(series.slices):
        dataset = dicom_file.read_dataset(one.path, kind=KIND, max_gib=max_gib)
        stored = dicom_file.decode_pixels(dataset, kind=KIND, path=one.path, max_gib=max_gib)
        values[:, :, k] = stored.T.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)
    return values, series.grid


def find_series(folder: str | Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> Series:
    """The one CT series of a folder and its subfolders, from the headers alone.

    Files that are clearly no slices (DICOMDIR, text, DICOM objects without pixels) are passed over. Raises
    UnreadableFile (a file that should be a slice and is not), MixedSeries (two series, both UIDs named; or a slice
    twice), SliceGap, RescaleMissing, NotHounsfield (a rescale to other units) and BadAffine. Gantry tilt is left in
    the grid.
    """
    slices = [_slice_of(path, header) for path, header in _image_headers(Path(folder), max_gib)]
    if len(slices) < 2:
        raise guards.unreadable(KIND, folder, f"{len(slices)} CT slices in the folder, a volume takes at least 2")
    _require_one_series(slices, folder)
    ordered = tuple(sorted(slices, key=lambda one: float(one.position_mm @ slices[0].normal)))
    return Series(ordered, Grid((*ordered[0].shape[::-1], len(ordered)), _world_from_index(ordered, folder)))


def _image_headers(folder: Path, max_gib: float) -> list[tuple[Path, FileDataset]]:
    """The headers of every image in the folder, once they are known to be of one series."""
    found: list[tuple[Path, FileDataset]] = []
    first_of: dict[str, Path] = {}
    for path in sorted(Path(root) / name for root, _, names in os.walk(folder) for name in names):
        if _clearly_other(path):
            continue
        header = dicom_file.read_dataset(path, kind=KIND, pixels=False, max_gib=max_gib)
        with guards.decoding(KIND, path):
            if _holds_image(path, header):
                found.append((path, header))
                first_of.setdefault(_series_uid(header), path)
    if len(first_of) > 1:
        (first, a), (second, b) = list(first_of.items())[:2]
        more = f" and {len(first_of) - 2} more" if len(first_of) > 2 else ""
        raise MixedSeries(
            f"{len(first_of)} series in one folder: {first} ({a.name}), {second} ({b.name}){more}",
            where=folder,
            mend="give each series its own folder",
        )
    return found


def _series_uid(header: FileDataset) -> str:
    return str(header.get("SeriesInstanceUID") or "no series UID")


def _holds_image(path: Path, header: FileDataset) -> bool:
    """Whether it is an image, and not a report, a plan or a directory; UnreadableFile when it is a cut image."""
    if "Rows" in header:
        return True
    directory = header.file_meta.get("MediaStorageSOPClassUID") == _DICOMDIR_CLASS
    if not directory and dicom_file.text(header, "Modality") in ("CT", ""):
        raise guards.unreadable(KIND, path, "it ends within its header")
    return False


def _clearly_other(path: Path) -> bool:
    """Files that nobody means as a slice; anything else that is not DICOM is refused, for it may be a damaged slice."""
    name = path.name.lower()
    named_so = name.startswith((".", "dicomdir")) or name in _OTHER_NAMES or path.suffix.lower() in _OTHER_SUFFIXES
    return named_so and (name.startswith("dicomdir") or not path.is_file() or not dicom_file.has_dicom_magic(path))


def _slice_of(path: Path, header: FileDataset) -> Slice:
    with guards.decoding(KIND, path):
        _require_single_ct_slice(path, header)
        orientation = dicom_file.floats(header, "ImageOrientationPatient", 6)
        position = dicom_file.floats(header, "ImagePositionPatient", 3)
        spacing = dicom_file.floats(header, "PixelSpacing", 2)
        if orientation is None or position is None or spacing is None or np.min(spacing) <= 0:
            raise BadAffine(
                "no position, orientation or pixel spacing", where=path, mend="give the original series of the scanner"
            )
        slope, intercept = _rescale(path, header)
        row, column = orientation[:3], orientation[3:]
        if abs(row @ row - 1) > 1e-2 or abs(column @ column - 1) > 1e-2 or abs(row @ column) > 1e-2:
            raise BadAffine("the image orientation is not two unit vectors at right angles", where=path)
        row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
        shape = (int(header.Rows), int(header.Columns))
        return Slice(path, _series_uid(header), shape, position, row, column, spacing, slope, intercept)


def _require_single_ct_slice(path: Path, header: FileDataset) -> None:
    modality = dicom_file.text(header, "Modality")
    if modality != "CT":
        raise guards.unreadable(KIND, path, f"modality {modality or 'not stated'}")
    if int(header.get("NumberOfFrames", 1) or 1) != 1:
        raise guards.unreadable(KIND, path, "a multi-frame CT: split it into single frames")
    if "LOCALIZER" in str(header.get("ImageType", "")).upper():
        raise guards.unreadable(KIND, path, "a localizer is a projection: give it as a radiograph")


def _rescale(path: Path, header: FileDataset) -> tuple[float, float]:
    slope = dicom_file.floats(header, "RescaleSlope", 1)
    intercept = dicom_file.floats(header, "RescaleIntercept", 1)
    if slope is None or intercept is None or slope[0] == 0:
        raise RescaleMissing(
            "no rescale slope and intercept, so its values are not HU", where=path, mend="give the original series"
        )
    unit = dicom_file.text(header, "RescaleType")
    if unit not in ("", "HU", "US"):
        raise NotHounsfield(f"values are not HU: the rescale gives {unit}", where=path, mend="give the series in HU")
    return float(slope[0]), float(intercept[0])


def _require_one_series(slices: list[Slice], folder: str | Path) -> None:
    first = slices[0]
    for one in slices[1:]:
        alike = (
            one.shape == first.shape
            and np.allclose(one.spacing_mm, first.spacing_mm, rtol=1e-3)
            and np.allclose(one.row_direction, first.row_direction, atol=1e-3)
            and np.allclose(one.column_direction, first.column_direction, atol=1e-3)
        )
        if not alike:
            raise MixedSeries(
                f"{first.path.name} and {one.path.name} differ in size, spacing or orientation ({one.series_uid})",
                where=folder,
                mend="give one reconstruction",
            )


def _world_from_index(ordered: tuple[Slice, ...], folder: str | Path) -> Matrix:
    """Columns: one column on, one row on, one slice on; the slice step may lean (gantry tilt)."""
    first = ordered[0]
    positions = np.array([one.position_mm for one in ordered])
    heights = positions @ first.normal
    _require_even(ordered, heights, folder)
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    stray = positions - (positions[0] + np.arange(len(ordered))[:, None] * step)
    allowed_mm = max(_UNEVEN_MM, _UNEVEN_SHARE * float(np.linalg.norm(step)))
    if float(np.max(np.linalg.norm(stray, axis=1))) > allowed_mm:
        raise BadAffine("the slices do not lie on a straight line", where=folder, mend="give the original series")
    matrix = np.eye(4)
    matrix[:3, 0] = first.row_direction * first.spacing_mm[1]
    matrix[:3, 1] = first.column_direction * first.spacing_mm[0]
    matrix[:3, 2], matrix[:3, 3] = step, first.position_mm
    return matrix


def _require_even(ordered: tuple[Slice, ...], heights_mm: Vector, folder: str | Path) -> None:
    steps_mm = np.diff(heights_mm)
    if np.min(steps_mm) < _SAME_PLACE_MM:
        k = int(np.argmin(steps_mm))
        raise MixedSeries(
            f"a slice twice at z = {ordered[k].position_mm[2]:.2f} mm: {ordered[k].path.name} and "
            f"{ordered[k + 1].path.name}, series {ordered[k].series_uid}",
            where=folder,
            mend="keep one of them",
        )
    usual_mm = float(np.median(steps_mm)) if len(steps_mm) > 2 else float(np.min(steps_mm))
    wrong = np.abs(steps_mm - usual_mm) > max(_UNEVEN_MM, _UNEVEN_SHARE * usual_mm)
    if np.any(wrong):
        k = int(np.argmax(wrong))
        middle = (ordered[k].position_mm[2] + ordered[k + 1].position_mm[2]) / 2
        raise SliceGap(
            f"gap at z = {middle:.2f} mm: {steps_mm[k]:.2f} mm between two slices, {usual_mm:.2f} mm elsewhere",
            where=folder,
            mend="give the whole series, evenly spaced",
        )


def _require_room(series: Series, folder: str | Path) -> None:
    """Refuse headers that claim more than the files can hold before the array is made; no codec packs 10000:1."""
    held = sum(one.path.stat().st_size for one in series.slices) * 10_000
    claimed = int(np.prod(series.grid.shape, dtype=object))
    guards.require_held(KIND, folder, claimed_bytes=claimed, held_bytes=held)
