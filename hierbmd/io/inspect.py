"""What files are: a CT, a label map or a radiograph, in facts that `hierbmd doctor` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import LabelMap
from hierbmd.errors import HierbmdError
from hierbmd.geometry import Grid
from hierbmd.io import dicom_file, guards
from hierbmd.io.hounsfield import require_finite
from hierbmd.io.inspect_radiograph import inspect_radiograph
from hierbmd.io.inspect_volume import Metal, inspect_ct, inspect_labels
from hierbmd.io.itk_image import is_itk_image, read_itk_header
from hierbmd.io.labels import as_label_map, resample_labels, scheme_of
from hierbmd.io.nifti import is_nifti, read_nifti_header

KIND = "CT, label map or radiograph"
_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FileReport:
    """One file: its `kind`, `facts` by name (JSON-able values), and what is `missing` for the next step.

    A file that was refused has `error` (its class) and `refusal` (its line) instead of facts.
    """

    path: str
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    error: str = ""
    refusal: str = ""


def inspect_files(
    paths: Sequence[str | Path], *, scheme: str | Path | None = None, max_gib: float = guards.DEFAULT_MAX_GIB
) -> list[FileReport]:
    """Report every file in the order given; a refused one is a report, too, and the others still follow.

    Label maps among the files say where the metal of the CTs among them is. `scheme` names their ids.
    """
    label_maps: list[tuple[str, LabelMap]] = []
    metals: dict[int, Metal] = {}
    reports: list[FileReport] = []
    for path in paths:
        try:
            report, content = _inspect(Path(path), scheme, max_gib)
        except HierbmdError as error:
            report, content = FileReport(str(path), "refused", error=type(error).__name__, refusal=str(error)), None
        if isinstance(content, LabelMap):
            label_maps.append((str(path), content))
        elif content is not None:
            metals[len(reports)] = content
        reports.append(report)
    return [_with_labels(report, metals.get(n), label_maps) for n, report in enumerate(reports)]


def _inspect(path: Path, scheme: str | Path | None, max_gib: float) -> tuple[FileReport, LabelMap | Metal | None]:
    if not path.is_dir():
        guards.require_file(KIND, path)
    if path.is_dir() or _is_volume(path):
        return _inspect_volume(path, scheme, max_gib)
    if dicom_file.has_dicom_magic(path) or path.suffix.lower() in (".dcm", ".mha", *_PICTURES):
        facts, missing = inspect_radiograph(path, max_gib=max_gib)
        return FileReport(str(path), "radiograph", facts, missing), None
    raise guards.unreadable(KIND, path, "give a DICOM file or folder, NIfTI, MHA, NRRD, PNG, TIFF or JPEG")


def _is_volume(path: Path) -> bool:
    """Whether the file holds a volume: an MHA may also be an image."""
    if is_nifti(path):
        return True
    return is_itk_image(path) and read_itk_header(path, KIND, dimensions=(2, 3)).GetDimension() == 3


def _inspect_volume(
    path: Path, scheme: str | Path | None, max_gib: float
) -> tuple[FileReport, LabelMap | Metal | None]:
    from hierbmd.io.ct import read_voxels

    values, grid = read_voxels(path, kind=KIND, max_gib=max_gib)
    require_finite(values, path)
    if looks_like_labels(values):
        names, names_from = scheme_of(path, scheme)
        labels = as_label_map(values, grid, names, where=path)
        facts, missing = inspect_labels(labels, _placed_by(path))
        facts["names_from"] = names_from
        return FileReport(str(path), "label map", facts, missing), labels
    facts, missing, metal = inspect_ct(path, values, grid, _placed_by(path))
    return FileReport(str(path), "CT", facts, missing), metal


def looks_like_labels(values: NDArray[Any]) -> bool:
    """Whether whole numbers from 0 lie in patches: neighbours along the first axis that are not both 0 mostly agree.

    A CT's neighbours differ by noise, a label map's are the same but at borders. A map of thin structures passes the
    test by its zeros being by far the commonest value.
    """
    if values.min() < 0 or not np.array_equal(values, np.rint(values)):
        return False
    share_background = float(np.mean(values == 0))
    first, second = values[:-1], values[1:]
    either = (first != 0) | (second != 0)
    alike = float(np.mean(first[either] == second[either])) if either.any() else 0.0
    return bool(values.any()) and (alike > 0.5 or (share_background > 0.9 and len(np.unique(values)) < 300))


def _placed_by(path: Path) -> str:
    """Which part of the file places its voxels."""
    if path.is_dir():
        return "PixelSpacing, ImagePositionPatient, ImageOrientationPatient"
    if is_nifti(path):
        return read_nifti_header(path, KIND).affine_source
    return "space directions" if path.suffix.lower() in (".nrrd", ".nhdr") else "ElementSpacing, TransformMatrix"


def _with_labels(report: FileReport, metal: Metal | None, label_maps: list[tuple[str, LabelMap]]) -> FileReport:
    """A CT's report with what the label maps beside it say: whether they lie on it, and where the metal is."""
    if metal is None or not label_maps:
        return report
    facts = dict(report.facts)
    fits = {path: _fit(labels, metal.grid) for path, labels in label_maps}
    facts["labels"] = fits
    by_label: dict[str, int] = {}
    for _, labels in label_maps:
        by_label |= metal.by_label(labels)
    if facts["metal"]["voxels"]:
        facts["metal"] = facts["metal"] | {"voxels_by_label": by_label}
    has_labels = any(fit.startswith("on ") for fit in fits.values())
    missing = tuple(line for line in report.missing if not (has_labels and line.startswith("label map")))
    return replace(report, facts=facts, missing=missing)


def _fit(labels: LabelMap, grid: Grid) -> str:
    if labels.grid == grid:
        return "on the same grid"
    try:
        resample_labels(labels, grid)
    except HierbmdError as error:
        return error.what.removeprefix("the label map ")
    return f"on another grid ({labels.grid.axis_codes}), overlapping: resampled when read"
