"""`hierbmd register`: find each bone of a CT on a radiograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hierbmd.cli._options import parse
from hierbmd.cli._radiograph import RadiographFlags
from hierbmd.options import option, part
from hierbmd.registration.options import RegistrationOptions

if TYPE_CHECKING:
    from hierbmd.data.radiograph import Radiograph
    from hierbmd.data.volume import LabelMap
    from hierbmd.geometry import ProjectionGeometry
    from hierbmd.registration.intrinsics import SddEstimate
    from hierbmd.registration.outcome import BoneRegistration


@dataclass(frozen=True, kw_only=True)
class Options(RadiographFlags):
    """Find each bone of a CT on a radiograph, rigidly and on its own, and say how far the pose may be trusted."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    radiograph: Path = option("the radiograph: DICOM, PNG, TIFF, JPEG or MHA", positional=True)
    labels: Path = option("label map of the CT's bones")
    out: Path = option("folder for registration.json and, per bone, NAME.png and NAME.geometry.json")
    scheme: Path | None = option("JSON {name: id} of the label map; TotalSegmentator v2 without", None)
    bones: tuple[str, ...] = option("NAME,...: what to find; without, femora and hip bones that are there", ())
    geometry: Path | None = option("geometry file: intrinsics and the pose to start from", None)
    settings: RegistrationOptions = field(default_factory=RegistrationOptions, metadata=part())
    free: Literal["sdd"] | None = option("sdd: refine the source-detector distance too, with its error", None)
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd register`; returns the exit status."""
    return run(parse("register", Options, argv))


def run(options: Options) -> int:
    """Read, register and write; refusals are raised, a bone that is not found is an outcome."""
    from hierbmd.io.ct import read_volume
    from hierbmd.io.labels import read_labels
    from hierbmd.io.radiograph import read_radiograph
    from hierbmd.registration.files import write_intrinsics, write_registrations
    from hierbmd.registration.patient import register_bones, register_bones_free_sdd

    settings = options.settings
    radiograph = read_radiograph(options.radiograph, options.stated)
    volume = read_volume(options.ct, resample_tilt=options.resample_tilt)
    labels = read_labels(options.labels, scheme=options.scheme, onto=volume.grid)
    bones = _bones(options, labels)
    start = _start(options, radiograph, labels, bones)
    if options.free is None:
        found = register_bones(volume, labels, radiograph, start, bones=bones, options=settings)
    else:
        freely = register_bones_free_sdd(volume, labels, radiograph, start, bones=bones, options=settings)
        found, start = freely.found, freely.start
        write_intrinsics(options.out, freely.estimate)
        _say_distance(freely.estimate)
    write_registrations(
        options.out,
        found,
        volume=volume,
        labels=labels,
        radiograph=radiograph,
        start=start,
        options=settings,
    )
    _say(found, options.out)
    return 0


def _bones(options: Options, labels: LabelMap) -> tuple[str, ...]:
    from hierbmd.errors import LabelsMismatch
    from hierbmd.registration.patient import DEFAULT_BONES

    bones = options.bones or tuple(name for name in DEFAULT_BONES if name in labels.names_present)
    if not bones:
        raise LabelsMismatch("neither femora nor hip bones in the label map", where=options.labels, mend="give --bones")
    return bones


def _start(options: Options, radiograph: Radiograph, labels: LabelMap, bones: tuple[str, ...]) -> ProjectionGeometry:
    from hierbmd.geometry import Beam, Side
    from hierbmd.io.geometry_file import read_geometry
    from hierbmd.io.localizer import read_localizer_geometry
    from hierbmd.registration.patient import DEFAULT_BONES
    from hierbmd.registration.start import start_geometry

    if options.geometry is not None:
        return read_geometry(options.geometry)
    if radiograph.beam is Beam.SLOT and options.view is None:
        return read_localizer_geometry(options.radiograph)
    # A radiograph of both hips is centred between them, whichever bone is asked for.
    both = [name for name in DEFAULT_BONES if name in labels.names_present] if radiograph.side == Side.BOTH else []
    return start_geometry(radiograph, labels, both or bones)


def _say_distance(estimate: SddEstimate) -> None:
    if not estimate.determined:
        print(f"source-detector distance kept at {estimate.given_mm:.0f} mm: {estimate.why}")
        return
    print(
        f"source-detector distance {estimate.sdd_mm:.0f} mm, standard error {estimate.standard_error_mm:.0f} mm "
        f"(given {estimate.given_mm:.0f}); its error and depth go together: "
        + ", ".join(f"{name} {value:.3f}" for name, value in estimate.depth_correlation.items())
    )


def _say(found: dict[str, BoneRegistration], out: Path) -> None:
    for name, result in found.items():
        error = result.uncertainty
        print(
            f"{name:<14} {result.outcome.value}; similarity {result.similarity:.2f}, "
            f"standard error in plane {error.in_plane_mm:.2f} mm, depth {error.depth_mm:.1f} mm, {result.seconds:.1f} s"
        )
    print(f"Research use only. Look at the overlays: {out}")
