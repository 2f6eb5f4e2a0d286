"""What a DICOM radiograph (CR, DX and kin, or a CT localizer) says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import PolarityUnknown, SideConflict, ViewConflict
from hierbmd.geometry import Beam, Side, View
from hierbmd.io import dicom_file, guards
from hierbmd.io.orientation import OPPOSITE, letter_of
from hierbmd.io.radiograph import KIND, StatedRadiograph, StatedSpacing

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_PROJECTIONS = {"CR", "DX", "RF", "XA", "RG", "PX", "IO", "OT"}
_VIEWS = {"AP": View.AP, "PA": View.PA, "LL": View.LAT, "LAT": View.LAT, "LATERAL": View.LAT}
"""ViewPosition (0018,5101). LL is left lateral, the house's LAT; right laterals and obliques are no View."""

_VIEW_MEANINGS = {"antero-posterior": "AP", "postero-anterior": "PA", "left lateral": "LL", "right lateral": "RL"}
_SIDES = {"L": Side.LEFT, "R": Side.RIGHT, "B": Side.BOTH, "U": Side.NONE}


def read_stated_dicom(path: Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> StatedRadiograph:
    """Read a DICOM projection image and what its header states.

    The Modality LUT or rescale is applied. Spacing: ImagerPixelSpacing is at the detector; PixelSpacing is taken to be
    there too unless it is said to be calibrated to the patient, when the magnification factor carries it over; a CT
    localizer's is at the isocentre (PS3.3 10.7.1.3 and C.8.2.1), and holds anywhere along the table, where rays are
    parallel. Raises the refusals of `read_radiograph`.
    """
    dataset = dicom_file.read_dataset(path, kind=KIND, max_gib=max_gib)
    # pydicom turns raw bytes into values when they are first asked for, so every look at the data set is guarded.
    with guards.decoding(KIND, path):
        localizer = _require_projection(dataset, path)
    stored = dicom_file.decode_pixels(dataset, kind=KIND, path=path, max_gib=max_gib)
    with guards.decoding(KIND, path):
        values, ends = _after_modality_lut(stored, dataset)
        bone_bright, source = _polarity(dataset, localizer, path)
        view, view_text = _view(dataset, path)
        side, side_text = _side(dataset, path)
        sdd_mm, source_patient_mm = (
            _positive(dataset, name) for name in ("DistanceSourceToDetector", "DistanceSourceToPatient")
        )
        spacings, notes = _localizer_spacing(dataset) if localizer else _spacings(dataset)
        linear = dicom_file.text(dataset, "PixelIntensityRelationship") == "LIN"
        response: Literal["log", "linear"] = "linear" if linear and _for_processing(dataset) else "log"
        return StatedRadiograph(
            stored=values,
            stored_range=ends,
            file_format="DICOM localizer" if localizer else f"DICOM {dicom_file.text(dataset, 'Modality')}",
            bits_stored=int(dataset.BitsStored),
            transfer_syntax=dicom_file.transfer_syntax_name(dataset),
            bone_bright=bone_bright,
            polarity_source=source,
            response=response,
            spacings=spacings,
            sdd_mm=sdd_mm,
            source_isocentre_mm=source_patient_mm,
            view=view,
            view_text=view_text,
            side=side,
            side_text=side_text,
            patient_orientation=_orientation(dataset),
            notes=notes,
            burned_in_annotation=dicom_file.text(dataset, "BurnedInAnnotation") == "YES",
            beam=Beam.SLOT if localizer and _runs_along_the_table(dataset) else Beam.CONE,
        )


def _require_projection(dataset: FileDataset, path: Path) -> bool:
    """Whether it is a localizer; UnreadableFile when it is no projection at all."""
    modality = dicom_file.text(dataset, "Modality")
    if modality == "CT":
        if "LOCALIZER" not in str(dataset.get("ImageType", "")).upper():
            raise guards.unreadable(KIND, path, "a CT slice: give its folder as a CT")
        return True
    if modality not in _PROJECTIONS:
        raise guards.unreadable(KIND, path, f"modality {modality or 'not stated'} is no projection")
    return False


def _after_modality_lut(stored: NDArray[Any], dataset: FileDataset) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The values after the Modality LUT or rescale, and the least and greatest that the stored bits could give."""
    from pydicom.pixels import apply_modality_lut

    bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0)) == 1
    ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1]
    probe = np.array(ends, dtype=stored.dtype)
    low, high = sorted(float(x) for x in apply_modality_lut(probe, dataset))
    return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32), (low, high)


def _polarity(dataset: FileDataset, localizer: bool, path: Path) -> tuple[bool, str]:
    """Whether bone is bright in the values, and the words that say so.

    A radiograph is shown with bone white, so MONOCHROME1 stores bone low. The sign of the pixel intensity relationship
    (0028,1041) says it physically; it decides for images that are for processing, which nobody has looked at.
    """
    photometric = dicom_file.text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise PolarityUnknown(f"polarity not stated: {photometric or 'no photometric interpretation'}", where=path)
    shown = photometric == "MONOCHROME2"
    sign = dicom_file.floats(dataset, "PixelIntensityRelationshipSign", 1)
    if localizer or sign is None or sign[0] not in (1, -1):
        return shown, photometric
    physical = sign[0] == -1
    words = f"PixelIntensityRelationshipSign {int(sign[0])}"
    if physical == shown or _for_processing(dataset):
        return physical, photometric if physical == shown else words
    raise PolarityUnknown(
        f"{photometric} and {words} disagree on polarity", where=path, mend="correct the file: one of them is wrong"
    )


def _for_processing(dataset: FileDataset) -> bool:
    return dicom_file.text(dataset, "PresentationIntentType") == "FOR PROCESSING"


def _view(dataset: FileDataset, path: Path) -> tuple[View | None, str]:
    position = dicom_file.text(dataset, "ViewPosition")
    codes = dataset.get("ViewCodeSequence") or []
    meaning = dicom_file.text(codes[0], "CodeMeaning").lower() if len(codes) else ""
    coded = _VIEW_MEANINGS.get(meaning, "")
    if position and coded and _VIEWS.get(position, position) != _VIEWS.get(coded, coded):
        raise ViewConflict(
            f"view position {position} and view code {meaning} disagree", where=path, mend="one is wrong"
        )
    text = position or coded
    return _VIEWS.get(text), text


def _side(dataset: FileDataset, path: Path) -> tuple[Side | None, str]:
    image, series = (dicom_file.text(dataset, name) for name in ("ImageLaterality", "Laterality"))
    if image and series and image != series:
        raise SideConflict(f"ImageLaterality {image} and Laterality {series} disagree", where=path, mend="one is wrong")
    text = image or series
    return _SIDES.get(text), text


def _spacings(dataset: FileDataset) -> tuple[tuple[StatedSpacing, ...], tuple[str, ...]]:
    found: list[StatedSpacing] = []
    notes: list[str] = []
    for tag in ("ImagerPixelSpacing", "PixelSpacing"):
        spacing = dicom_file.floats(dataset, tag, 2)
        if spacing is None:
            continue
        if np.min(spacing) <= 0:
            notes.append(f"{tag} is {spacing[0]:g} x {spacing[1]:g}, so it says nothing")
        elif tag == "ImagerPixelSpacing" or found or not dicom_file.text(dataset, "PixelSpacingCalibrationType"):
            found.append(StatedSpacing(tag, (float(spacing[1]), float(spacing[0]))))
        else:
            magnification = _positive(dataset, "EstimatedRadiographicMagnificationFactor")
            if magnification is None:
                notes.append(f"{tag} is calibrated to the patient and no magnification is given")
                continue
            scaled = spacing * magnification
            found.append(StatedSpacing(f"{tag} times magnification {magnification:g}", (scaled[1], scaled[0])))
    return tuple(found), tuple(notes)


def _localizer_spacing(dataset: FileDataset) -> tuple[tuple[StatedSpacing, ...], tuple[str, ...]]:
    """A localizer's spacing is at the isocentre; across its fan the detector's is larger by the magnification there."""
    spacing = dicom_file.floats(dataset, "PixelSpacing", 2)
    sdd_mm, source_mm = (_positive(dataset, n) for n in ("DistanceSourceToDetector", "DistanceSourceToPatient"))
    slot = "a slot scan: rays fan out across the table and are parallel along it"
    if spacing is None or np.min(spacing) <= 0 or sdd_mm is None or source_mm is None:
        return (), (slot, "no spacing and distances at the isocentre")
    magnification = sdd_mm / source_mm
    across = f"PixelSpacing {spacing[1]:.4g} x {spacing[0]:.4g} at the isocentre, times {sdd_mm:g}/{source_mm:g}"
    du, dv = float(spacing[1] * magnification), float(spacing[0])
    if _runs_along_the_table(dataset):
        return (StatedSpacing(f"{across} across the fan", (du, dv)),), (slot,)
    notes = (slot, "nothing says that its columns run along the table: taken for a cone's image")
    return (StatedSpacing(across, (du, dv * magnification)),), notes


def _runs_along_the_table(dataset: FileDataset) -> bool:
    """Whether the image's columns run along the patient, head to feet or back, as the table moves."""
    orientation = _orientation(dataset)
    return orientation is not None and orientation[1][:1] in ("H", "F")


def _orientation(dataset: FileDataset) -> tuple[str, str] | None:
    """PatientOrientation, or what ImageOrientationPatient comes to; None when neither names two directions."""
    value = dataset.get("PatientOrientation")
    if value and not isinstance(value, str) and len(value) == 2 and all(str(c)[:1] in OPPOSITE for c in value):
        return str(value[0]), str(value[1])
    directions = dicom_file.floats(dataset, "ImageOrientationPatient", 6)
    return None if directions is None else (letter_of(directions[:3]), letter_of(directions[3:]))


def _positive(dataset: FileDataset, keyword: str) -> float | None:
    value = dicom_file.floats(dataset, keyword, 1)
    return float(value[0]) if value is not None and value[0] > 0 else None
