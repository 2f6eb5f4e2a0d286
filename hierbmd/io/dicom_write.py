"""DICOM out: a radiograph as Digital X-Ray or Computed Radiography, a volume as a CT series. No patient name, ever."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.density import RESEARCH_USE_ONLY
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.volume import Volume
from hierbmd.errors import BadConfig, NotOrthogonal, OutputUnwritable
from hierbmd.geometry import Side, View
from hierbmd.io.atomic import atomic_path
from hierbmd.io.dicom_acquisition import AcquisitionTags, describe_acquisition
from hierbmd.io.dicom_compress import SYNTAX, compress
from hierbmd.io.orientation import view_orientation
from hierbmd.options import option

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_CR, _DX, _CT = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.2",
)
"""Storage SOP classes (PS3.6): Computed Radiography, Digital X-Ray for Presentation, CT."""

_LATERALITY = {Side.LEFT: "L", Side.RIGHT: "R", Side.BOTH: "B", Side.NONE: "U"}
_VIEW_POSITION = {View.AP: "AP", View.PA: "PA", View.LAT: "LL"}
_HIP_REGION = ("24136001", "SCT", "Hip joint")
_SPINE_REGION = ("122496007", "SCT", "Lumbar spine")


@dataclass(frozen=True)
class DicomOptions:
    """How DICOM files are written: who they are of, and how the pixels are stored."""

    subject: str = option("a pseudonym, written as the patient's id; the name stays empty", "")
    description: str = option("study and series description", "")
    simulated: bool = option("say in the file that the image is simulated", False)
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = option("MONOCHROME1 stores bone dark", "MONOCHROME2")
    bits_stored: int = option("8 to 16 bits a pixel of a radiograph", 12)
    value_range: tuple[float, float] | None = option("pixel values that go to the ends of the bits", None)
    compression: Literal["none", "rle", "jpeg2000", "jpeg2000-lossy", "jpeg"] = option(
        "rle and jpeg2000 lose nothing; jpeg has 8 bits; only radiographs may lose", "none"
    )
    jpeg_quality: int = option("quality of jpeg, 1-100", 90)
    jpeg2000_ratio: float = option("compression ratio of jpeg2000-lossy", 10.0)
    uid_seed: str = option("the same seed gives the same UIDs; random ones without", "")


@dataclass(frozen=True)
class CtAcquisition:
    """How a CT was taken, for its tags. What is None or empty is not stated.

    `rescales` holds one (slope, intercept) a slice, in place of 1 and -1024; `padding_hu` is what stands where nothing
    was reconstructed.
    """

    kvp: float | None = None
    kernel: str = ""
    thickness_mm: float | None = None
    field_mm: float | None = None
    padding_hu: float | None = None
    rescales: tuple[tuple[float, float], ...] = ()


def write_radiograph_dicom(
    path: str | Path,
    radiograph: Radiograph,
    options: DicomOptions | None = None,
    acquisition: AcquisitionTags | None = None,
) -> None:
    """Write a radiograph as DICOM: Digital X-Ray where spacing, view and side are known, else Computed Radiography.

    Pixels are mapped linearly from `value_range` (their own range by default) to the stored bits, so values come back
    up to that line. Spacing goes to ImagerPixelSpacing, distances, view, laterality and orientation to their tags, and
    what `acquisition` knows of the exposure to its own. BadConfig for baseline JPEG of more than 8 bits.
    """
    options = options or DicomOptions()
    if not 8 <= options.bits_stored <= 16:
        raise ValueError(f"a radiograph is stored in 8 to 16 bits, not {options.bits_stored}")
    known = None not in (radiograph.pixel_mm, radiograph.view, radiograph.side)
    dataset = _new_dataset(_DX if known else _CR, "DX" if known else "CR", options)
    _describe_projection(dataset, radiograph)
    _describe_intensity(dataset, options)
    if known:
        _describe_digital_x_ray(dataset)
    describe_acquisition(dataset, acquisition or AcquisitionTags())
    _set_pixels(dataset, _stored(radiograph.pixels, options), bits_stored=options.bits_stored, signed=False)
    with atomic_path(path) as temporary:
        _save(dataset, temporary, options)


def write_ct_dicom(
    folder: str | Path,
    volume: Volume,
    options: DicomOptions | None = None,
    acquisition: CtAcquisition | None = None,
) -> None:
    """Write a volume in HU as a CT series, one file a layer of its k axis: int16 with slope 1 and intercept -1024.

    Columns run along i and rows along j, which must be at right angles (NotOrthogonal); k may lean, as under gantry
    tilt. Values are rounded to whole steps of the slice's rescale, whole HU without one of the `acquisition`'s own. The
    folder appears whole; one that holds anything but an earlier series is refused (OutputUnwritable).
    """
    options = options or DicomOptions()
    if options.compression in ("jpeg", "jpeg2000-lossy"):
        raise BadConfig("a CT is not written with loss", where=options.compression, mend="none, rle or jpeg2000")
    final = Path(folder)
    _require_replaceable(final)
    building, former = (final.with_name(f".{os.getpid()}.{word}.{final.name}") for word in ("building", "former"))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        _write_slices(building, volume, options, acquisition or CtAcquisition())
        if final.exists():
            final.replace(former)
        building.replace(final)
    except OSError as error:
        raise OutputUnwritable(f"cannot write ({error.strerror})", where=final, mend="give another folder") from error
    finally:
        for leftover in (building, former):
            shutil.rmtree(leftover, ignore_errors=True)


def _require_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or any(p.suffix != ".dcm" or not p.name.startswith("slice_") for p in folder.iterdir()):
        raise OutputUnwritable("holds something else than a series of ours", where=folder, mend="give another folder")


def _write_slices(folder: Path, volume: Volume, options: DicomOptions, acquisition: CtAcquisition) -> None:
    from pydicom.uid import generate_uid

    if volume.unit != "HU":
        raise ValueError(f"a CT series is in HU, not {volume.unit}")
    rescales = acquisition.rescales or ((1.0, -1024.0),) * volume.grid.shape[2]
    if len(rescales) != volume.grid.shape[2]:
        raise ValueError(f"{len(rescales)} rescales for {volume.grid.shape[2]} slices")
    world = volume.grid.world_from_index
    column_step, row_step, layer_step = world[:3, 0], world[:3, 1], world[:3, 2]
    spacing_mm = volume.grid.spacing_mm
    if abs(float(column_step @ row_step)) > 1e-4 * spacing_mm[0] * spacing_mm[1]:
        raise NotOrthogonal("rows and columns are not at right angles", where=folder, mend="resample it first")
    normal = np.cross(column_step, row_step) / (spacing_mm[0] * spacing_mm[1])
    study_uid, series_uid, frame_uid = (
        generate_uid(entropy_srcs=_entropy(options, name)) for name in ("study", "series", "frame")
    )
    for k in range(volume.grid.shape[2]):
        dataset = _new_dataset(_CT, "CT", options, instance=k + 1)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID = frame_uid
        dataset.PositionReferenceIndicator = ""
        dataset.AcquisitionNumber, dataset.PatientPosition = "1", "HFS"
        dataset.ImagePositionPatient = [_ds(x) for x in world[:3, 3] + k * layer_step]
        dataset.ImageOrientationPatient = [_ds(x) for x in (*column_step / spacing_mm[0], *row_step / spacing_mm[1])]
        dataset.PixelSpacing = [_ds(spacing_mm[1]), _ds(spacing_mm[0])]
        dataset.SliceThickness = _ds(abs(float(layer_step @ normal)))
        dataset.PhotometricInterpretation = "MONOCHROME2"
        slope, intercept = (float(_ds(number)) for number in rescales[k])
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _ds(intercept), _ds(slope), "HU"
        _describe_acquisition(dataset, acquisition)
        stored = np.rint((volume.values[:, :, k].T - intercept) / slope)
        _set_pixels(dataset, np.clip(stored, -32768, 32767).astype(np.int16), bits_stored=16, signed=True)
        if acquisition.padding_hu is not None:
            dataset.PixelPaddingValue = int(
                np.clip(np.rint((acquisition.padding_hu - intercept) / slope), -32768, 32767)
            )
            dataset["PixelPaddingValue"].VR = "SS"
        _save(dataset, folder / f"slice_{k:04d}.dcm", options)


def _describe_acquisition(dataset: FileDataset, acquisition: CtAcquisition) -> None:
    dataset.KVP = "" if acquisition.kvp is None else _ds(acquisition.kvp)
    if acquisition.kernel:
        dataset.ConvolutionKernel = acquisition.kernel
    if acquisition.thickness_mm is not None:
        dataset.SpacingBetweenSlices, dataset.SliceThickness = dataset.SliceThickness, _ds(acquisition.thickness_mm)
    if acquisition.field_mm is not None:
        dataset.ReconstructionDiameter = _ds(acquisition.field_mm)


def _new_dataset(sop_class: str, modality: str, options: DicomOptions, instance: int = 1) -> FileDataset:
    """The patient, study, series and equipment of any object, with UIDs; type 2 attributes are there and empty."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=_entropy(options, modality, str(instance)))
    meta.TransferSyntaxUID = UID(SYNTAX["none"])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=_entropy(options, "study"))
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=_entropy(options, "series", modality))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Modality, dataset.Manufacturer = modality, "hierbmd"
    dataset.PatientName, dataset.PatientID = "", options.subject
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.ReferringPhysicianName = dataset.StudyID = dataset.AccessionNumber = dataset.ContentDate = ""
    dataset.ContentTime = dataset.PatientOrientation = ""
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", "written without identity"
    dataset.StudyDescription = dataset.SeriesDescription = options.description[:64]
    dataset.SeriesNumber, dataset.InstanceNumber = 1, instance
    dataset.ImageType = ["DERIVED", "PRIMARY", *(["AXIAL"] if modality == "CT" else [""])]
    dataset.ImageComments = f"{'Simulated. ' if options.simulated else ''}{RESEARCH_USE_ONLY}"
    dataset.DerivationDescription = "simulated by hierbmd" if options.simulated else "written by hierbmd"
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    return dataset


def _describe_projection(dataset: FileDataset, radiograph: Radiograph) -> None:
    dataset.BodyPartExamined = "HIP"
    dataset.ViewPosition = "" if radiograph.view is None else _VIEW_POSITION[radiograph.view]
    if radiograph.view is not None:
        dataset.PatientOrientation = list(view_orientation(radiograph.view))
    if radiograph.side is not None:
        dataset.ImageLaterality = _LATERALITY[radiograph.side]
    if radiograph.pixel_mm is not None:
        dataset.ImagerPixelSpacing = [_ds(radiograph.pixel_mm[1]), _ds(radiograph.pixel_mm[0])]
    if radiograph.sdd_mm is not None:
        dataset.DistanceSourceToDetector = _ds(radiograph.sdd_mm)
    if radiograph.source_isocentre_mm is not None:
        dataset.DistanceSourceToPatient = _ds(radiograph.source_isocentre_mm)


def _describe_intensity(dataset: FileDataset, options: DicomOptions) -> None:
    inverse = options.photometric == "MONOCHROME1"
    dataset.PhotometricInterpretation = options.photometric
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (options.bits_stored - 1), 2**options.bits_stored
    dataset.WindowCenterWidthExplanation = "all stored values"


def _describe_digital_x_ray(dataset: FileDataset) -> None:
    """What the Digital X-Ray object demands besides (PS3.3 A.26): intent, detector, intensity relation, anatomy."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    dataset.PresentationIntentType, dataset.DetectorType = "FOR PRESENTATION", ""
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if dataset.PhotometricInterpretation == "MONOCHROME1" else -1
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = (
        _SPINE_REGION if dataset.ImageLaterality == _LATERALITY[Side.NONE] else _HIP_REGION
    )
    dataset.AnatomicRegionSequence = Sequence([region])
    dataset.AcquisitionContextSequence = Sequence([])


def _stored(pixels: NDArray[np.float32], options: DicomOptions) -> NDArray[np.unsignedinteger[Any]]:
    low, high = options.value_range or (float(pixels.min()), float(pixels.max()))
    top = 2**options.bits_stored - 1
    levels = np.rint(np.clip((pixels - low) / ((high - low) or 1.0), 0, 1) * top)
    levels = top - levels if options.photometric == "MONOCHROME1" else levels
    return levels.astype(np.uint8 if options.bits_stored == 8 else np.uint16)


def _set_pixels(dataset: FileDataset, stored: NDArray[Any], *, bits_stored: int, signed: bool) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, int(signed)
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    content = stored.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"


def _save(dataset: FileDataset, path: Path, options: DicomOptions) -> None:
    ratio, quality = options.jpeg2000_ratio, options.jpeg_quality
    compress(dataset, options.compression, jpeg_quality=quality, jpeg2000_ratio=ratio)
    dataset.save_as(path, enforce_file_format=True)


def _entropy(options: DicomOptions, *names: str) -> list[str] | None:
    return [options.uid_seed, options.subject, *names] if options.uid_seed else None


def _ds(number: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(number))
