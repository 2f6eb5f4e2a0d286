"""Errors that a user can act on: each says what is wrong, where, and how to mend it, in one line."""

from __future__ import annotations


class HierbmdError(Exception):
    """Bad input or a refused step; the base of every error that this package raises on purpose.

    `what` names the fault, `where` the file, row or field, `mend` the way out. The text is always one line.
    """

    def __init__(self, what: str, *, where: object = "", mend: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.mend = mend
        text = what if not self.where else f"{what}: {self.where}"
        text = text if not mend else f"{text} ({mend})"
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between processes, where exceptions are pickled."""
        return _rebuild, (type(self), self.what, self.where, self.mend)


def _rebuild(kind: type[HierbmdError], what: str, where: str, mend: str) -> HierbmdError:
    return kind(what, where=where, mend=mend)


class UnreadableFile(HierbmdError):
    """Truncated, empty or not an image."""


class OversizedFile(HierbmdError):
    """Claims more than the file holds, or expands past the stated limit."""


class SliceGap(HierbmdError):
    """A slice is missing from a DICOM series."""


class MixedSeries(HierbmdError):
    """Two series in one folder, or a slice twice."""


class NotOrthogonal(HierbmdError):
    """Gantry tilt or sheared axes."""


class RescaleMissing(HierbmdError):
    """A CT slice without rescale slope or intercept."""


class NotHounsfield(HierbmdError):
    """CT values that cannot be Hounsfield units."""


class NonFiniteVoxels(HierbmdError):
    """NaN or infinite values in an image."""


class BadAffine(HierbmdError):
    """A singular, NaN or zero-spacing affine."""


class AffineConflict(HierbmdError):
    """A NIfTI header whose qform and sform disagree."""


class PolarityUnknown(HierbmdError):
    """Nothing says whether bone is bright or dark in a radiograph."""


class GeometryMissing(HierbmdError):
    """A radiograph or a geometry file without spacing or source-detector distance."""


class SpacingConflict(HierbmdError):
    """ImagerPixelSpacing and PixelSpacing disagree."""


class SideConflict(HierbmdError):
    """The body side is missing, or contradicts the manifest."""


class ViewConflict(HierbmdError):
    """The view is missing, or contradicts the manifest."""


class LabelsMismatch(HierbmdError):
    """A label map that does not lie on its CT, or lacks a named structure."""


class RaysMissVolume(HierbmdError):
    """No ray of the camera meets the volume, or the volume is behind the source."""


class NotRigid(HierbmdError):
    """A pose that is not rigid, or reflects."""


class SuspectedUnit(HierbmdError):
    """A value whose size suggests another unit than the one asked for."""


class Uncalibrated(HierbmdError):
    """No density calibration, or one of another material."""


class PhantomNotFound(Uncalibrated):
    """No calibration phantom of this kind in the scan, or one that cannot be read in its voxels."""


class RodsOutOfView(Uncalibrated):
    """Too few whole rods in the field of view for a line with a residual."""


class MetalInRods(Uncalibrated):
    """Metal in a rod, or a rod that is not one material throughout."""


class RodsDisagree(Uncalibrated):
    """Rods that lie on no line: swapped, of another serial or another phantom."""


class ImplausibleLine(Uncalibrated):
    """A fitted line that no scanner gives for this material."""


class TissuesNotFound(Uncalibrated):
    """Tissues of an internal calibration that are missing, read what they cannot, or tell too little."""


class ScaleDrifts(Uncalibrated):
    """A Hounsfield scale that changes from slice to slice by more than a line can stand for."""


class BadRegion(HierbmdError):
    """A bone on which a density-measuring region cannot be placed."""


class SplitLeak(HierbmdError):
    """One patient, or the same pixels, in two splits."""


class BadManifest(HierbmdError):
    """A manifest or data set that cannot be used as it stands; the line is named."""


class UntrustedWeights(HierbmdError):
    """Weights that are not safetensors with a matching card."""


class WrongWeights(HierbmdError):
    """Weights of another stage, anatomy or version."""


class BadConfig(HierbmdError):
    """An unknown key or a value out of range in a configuration, or one that names code outside the allow-list."""


class MissingExtra(HierbmdError):
    """An optional dependency that this step needs is not installed or not usable."""


class TrainingDiverged(HierbmdError):
    """A loss that became NaN or infinite."""


class SegmenterFailed(HierbmdError):
    """An installed segmenter that ended with an error, or whose bundle cannot be run."""


class ProcessDied(HierbmdError):
    """A process that worked on one task ended by itself; the other tasks go on."""


class OutputUnwritable(HierbmdError):
    """The output folder cannot be written, or holds something else."""
