"""What a virtual patient and a virtual radiograph are made with; no heavy imports."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from hierbmd.errors import BadConfig, SuspectedUnit
from hierbmd.options import option, part


@dataclass(frozen=True)
class PatientOptions:
    """Virtual patients: who they are and how finely they are scanned."""

    seed: int = option("seed of the whole cohort; with the patient's number it gives the patient", 0)
    spacing_mm: float = option("voxel size of the CT, isotropic, mm", 2.0)
    age_min: float = option("youngest age in years", 45.0)
    age_max: float = option("oldest age in years", 90.0)
    female_share: float = option("share of women", 0.75)
    t_score_sd: float = option("spread of bone density about its mean for age and sex, in young-adult SD", 1.25)
    ct_noise_hu: float = option("standard deviation of the CT noise at the voxel size, HU", 12.0)
    coverage: Literal["hips", "lumbar", "torso"] = option("what the CT covers: hips, T12 to sacrum, or both", "hips")
    arthritis_share: float = option("share of patients with osteoarthritis of a hip or both", 0.0)
    implant_share: float = option("share of patients with metal in one hip: arthroplasty, nail or screws", 0.0)

    def __post_init__(self) -> None:
        if not 0.5 <= self.spacing_mm <= 6.0:
            raise SuspectedUnit(
                "the voxel size is outside 0.5 to 6 mm",
                where=f"spacing_mm {self.spacing_mm}",
                mend="give mm, not m or cm",
            )
        if not 18 <= self.age_min <= self.age_max <= 110:
            raise BadConfig("ages are outside 18 to 110 years or reversed", where=f"{self.age_min}, {self.age_max}")
        if not 0 <= self.female_share <= 1 or not 0 <= self.t_score_sd <= 3 or not 0 <= self.ct_noise_hu <= 200:
            raise BadConfig(
                "out of range", where="female_share, t_score_sd or ct_noise_hu", mend="0 to 1, 0 to 3, 0 to 200"
            )
        if not 0 <= self.arthritis_share <= 1 or not 0 <= self.implant_share <= 1:
            raise BadConfig("a share is outside 0 to 1", where="arthritis_share, implant_share", mend="0.1 is 10 %")
        if self.coverage not in ("hips", "lumbar", "torso"):
            raise BadConfig("no such coverage", where=f"coverage {self.coverage}", mend="hips, lumbar or torso")


@dataclass(frozen=True)
class RadiographSimulationOptions:
    """A simulated radiograph: beam, scatter, detector and display; what is None is drawn from the seed.

    `realism` "realistic" switches on the effects that "plain" leaves out (heel effect, exposure variation, collimation,
    marker, detector response, multi-scale contrast, the transport kernel, a unit's own grid and storage); each can be
    set by itself on top of either. `display` False gives the log exposure itself (bone bright, not windowed, not
    quantised). `monoenergetic_kev` with scatter and noise off is the limit in which the image is a line integral of
    attenuation.
    """

    kvp: float | None = option("tube voltage, 70-120 kVp; not given: drawn from 75-90", None)
    filtration: str = option("beam filtration, a column of the spectrum table", "3.0 mm Al + 0.1 mm Cu")
    monoenergetic_kev: float | None = option("one energy in place of a spectrum, keV", None)
    scatter: bool = option("scattered radiation", True)
    grid: bool = option("an antiscatter grid; realistic: one of four, else what an 8:1 passes", True)
    noise: bool = option("quantum and electronic noise", True)
    dose_ugy: float | None = option("mean dose behind the patient, microgray; not given: drawn from 1.5-5", None)
    focal_spot_mm: float = option("width of the focal spot, mm", 1.0)
    screen_mm: float = option("spread of light in the detector's screen, standard deviation in mm", 0.12)
    display: bool = option("log, window, contrast curve, detail and bit depth", True)
    bits: int | None = option("bit depth, 8-16; not given: 12, realistic: 8, 10 or 12", None)
    site: int | None = option("number of the X-ray unit, whose processing hardly varies; not given: any unit's", None)
    rays: int = option("rays along each side of a pixel", 1)
    step_mm: float = option("step along a ray, mm", 1.0)
    table: bool = option("remove the table of the scanner from a real CT", True)
    realism: Literal["plain", "realistic"] = option("which effects are on where no option says", "plain")
    heel: bool | None = option("heel effect, distance and slant over the field, less a flat field", None)
    exposure: bool | None = option("exposure by chambers, missing its aim by a deviation index of SD 2", None)
    collimation: bool | None = option("a collimated field with penumbra, off-centre and turned; shutter", None)
    marker: bool | None = option("a side marker, of lead or digital, telling the side truly", None)
    response: bool | None = option("the detector's modulation transfer, saturation and unequal gain", None)
    multiscale: bool | None = option("multi-scale contrast amplification in place of two bands of detail", None)
    scatter_kernel: Literal["constant", "transport"] | None = option(
        "scatter by thickness: constant share or tables", None
    )
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] | None = option("polarity of the file", None)
    compression: Literal["none", "rle", "jpeg2000", "jpeg2000-lossy", "jpeg"] | None = option("of the file", None)
    jpeg_quality: int | None = option("quality of jpeg, 1-100", None)
    jpeg2000_ratio: float | None = option("compression ratio of jpeg2000-lossy", None)

    @property
    def realistic(self) -> bool:
        """Whether effects are on that no option names."""
        return self.realism == "realistic"

    def has(self, effect: str) -> bool:
        """Whether an effect is on: as its option says, else as `realism` does."""
        said: bool | None = getattr(self, effect)
        return self.realistic if said is None else said

    def __post_init__(self) -> None:
        if self.dose_ugy is not None and not 0.01 <= self.dose_ugy <= 1000:
            raise SuspectedUnit(
                "the dose behind the patient is outside 0.01 to 1000", where=self.dose_ugy, mend="give microgray"
            )
        if not 1 <= self.rays <= 8 or not 0.05 <= self.step_mm <= 10 or not 8 <= (self.bits or 12) <= 16:
            raise BadConfig("out of range", where="rays 1-8, step_mm 0.05-10, bits 8-16", mend="give others")
        if not 1 <= (self.jpeg_quality or 90) <= 100 or not 1 < (self.jpeg2000_ratio or 10) <= 200:
            raise BadConfig("out of range", where="jpeg_quality 1-100, jpeg2000_ratio 1-200", mend="give others")
        if self.compression == "jpeg" and (self.bits or 8) != 8:
            raise BadConfig("baseline JPEG has 8 bits", where=f"bits {self.bits}", mend="bits 8, or jpeg2000-lossy")


_POSITION_NAMES = ("standing", "supine", "abduction", "adduction", "rest")
_AIM_NAMES = ("ct", "hips", "lumbar")


@dataclass(frozen=True)
class StudyOptions:
    """A simulated cohort: how many patients and radiographs, how they lie before the source, and who learns from them.

    A pose is a motion of the patient about the isocentre (the CT's middle) in camera axes. Spreads are standard
    deviations; draws beyond 2.2 of them are drawn again.
    """

    subjects: int = option("how many patients", 24)
    poses: int = option("radiographs of each patient", 1)
    positions: tuple[str, ...] = option(
        "how the patient is laid in them, in turn: standing, supine, abduction, adduction, rest; none: any", ()
    )
    aims: tuple[str, ...] = option("where each is centred: ct (its middle), hips, lumbar; each pose at each", ("ct",))
    size_px: tuple[int, int] = option("columns and rows of a radiograph, WxH", (256, 256))
    pixel_mm: float = option("pixel size on the detector, mm", 1.6)
    sdd_mm: float = option("source-detector distance, mm", 1150.0)
    source_isocentre_mm: float = option("source-isocentre distance, mm", 1000.0)
    rotation_deg: float = option("spread of the patient's rotation about each camera axis, deg", 2.0)
    shift_mm: float = option("spread of the patient's shift along each camera axis, mm", 6.0)
    femur_deg: float = option("spread of each femur's own abduction, rotation and flexion about its head, deg", 3.0)
    sites: int = option("X-ray units that took the radiographs, patients in turn; 0: every image is of its own", 1)
    train: float = option("share of patients to train on", 0.6)
    val: float = option("share of patients to tune on", 0.15)
    test: float = option("share of patients kept for the end", 0.25)

    def __post_init__(self) -> None:
        if self.subjects < 1 or self.poses < 1:
            raise BadConfig("nothing to simulate", where="subjects, poses", mend="at least 1 of each")
        if unknown := {*self.positions} - {*_POSITION_NAMES} | {*self.aims} - {*_AIM_NAMES}:
            mend = "positions: " + ", ".join(_POSITION_NAMES) + "; aims: " + ", ".join(_AIM_NAMES)
            raise BadConfig("no such position or aim", where=", ".join(sorted(unknown)), mend=mend)
        if not self.aims:
            raise BadConfig("no aim of the radiographs", where="aims", mend="ct, hips or lumbar")
        if self.sites < 0:
            raise BadConfig("sites is below zero", where=f"sites {self.sites}", mend="0 for one to every image")
        if not 300 <= self.sdd_mm <= 5000 or not 200 <= self.source_isocentre_mm < self.sdd_mm:
            distances = f"sdd_mm {self.sdd_mm:g}, source_isocentre_mm {self.source_isocentre_mm:g}"
            raise SuspectedUnit("distances of no radiograph", where=distances, mend="give mm, not m or cm")
        if not 0.05 <= self.pixel_mm <= 10:
            raise SuspectedUnit("a pixel of no radiograph", where=f"pixel_mm {self.pixel_mm:g}", mend="give mm")
        if not 0 <= self.rotation_deg <= 15 or not 0 <= self.shift_mm <= 60 or not 0 <= self.femur_deg <= 12:
            raise BadConfig("pose spread out of range", where="rotation 0-15, shift 0-60, femur 0-12", mend="deg, mm")


@dataclass(frozen=True)
class ScanOptions:
    """A QCT scan of a patient: what the scanner and what lies beside the patient do to the CT. All is off by default.

    `preset_scan` turns all of it on. What is None follows the patient's own grid.
    """

    phantom: str = option("phantom under the patient: a name of the phantom table, or a .json file; none without", "")
    serial: int = option("the phantom's serial: its rods differ a little from the nominal; 0: nominal", 0)
    phantom_tilt_deg: float = option("spread of the phantom's rotation about each axis, deg", 0.0)
    phantom_shift_mm: float = option("spread of the phantom's shift across and along the patient, mm", 0.0)
    phantom_gap_mm: float = option("pad between the patient and the phantom or table, mm", 6.0)
    table: bool = option("the scanner's table under the patient", False)
    kvp: float | None = option("tube voltage, 80-140 kVp; not given: the single energy of 70 keV", None)
    pixel_mm: float | None = option("pixel size, mm", None)
    fov_mm: float | None = option("width of the square that is reconstructed, mm; not given: all there is", None)
    fov_shift_mm: tuple[float, float] = option("shift of its centre to the left and to the back, mm", (0.0, 0.0))
    padding_hu: int | None = option("value outside the circle of the field of view, -1024 or -2048", None)
    interval_mm: float | None = option("distance between slices, mm", None)
    thickness_mm: float | None = option("thickness of a slice, mm: full width at half maximum", None)
    profile: Literal["rectangle", "bell"] = option("section-sensitivity profile: sequential, or spiral", "rectangle")
    kernel: Literal["none", "soft", "standard", "sharp"] = option("reconstruction kernel, in the plane", "none")
    noise_hu: float = option("noise of the standard kernel at 3 mm in a body of 300 mm of water, HU", 0.0)
    noise_by_size: bool = option("noise grows with the body at a fixed tube current", True)
    cupping_hu: float = option("drop at the centre of a body of 300 mm of water, for water, HU", 0.0)
    drift_percent: float = option("drift of the attenuation scale from the first to the last slice, percent", 0.0)
    offset_sd_hu: float = option("spread of the scanner's zero, HU", 0.0)

    def __post_init__(self) -> None:
        if self.kvp is not None and not 80 <= self.kvp <= 140:
            raise BadConfig("no CT beam at this voltage", where=f"kvp {self.kvp:g}", mend="give 80 to 140 kVp")
        if self.padding_hu not in (None, -1024, -2048):
            raise BadConfig("not a padding value", where=f"padding_hu {self.padding_hu}", mend="-1024 or -2048")
        if self.kernel not in ("none", "soft", "standard", "sharp") or self.profile not in ("rectangle", "bell"):
            where = f"kernel {self.kernel}, profile {self.profile}"
            raise BadConfig(
                "no kernel or profile of this name", where=where, mend="soft, standard, sharp; rectangle, bell"
            )
        for name, low, high in (("pixel_mm", 0.1, 6), ("fov_mm", 50, 1000), ("interval_mm", 0.1, 20)):
            self._require(name, low, high)
        for name, high in (("thickness_mm", 20), ("phantom_tilt_deg", 10), ("phantom_shift_mm", 60)):
            self._require(name, 0, high)
        for name, high in (("phantom_gap_mm", 60), ("noise_hu", 200), ("cupping_hu", 100), ("drift_percent", 10)):
            self._require(name, 0, high)
        if self.serial < 0 or not 0 <= self.offset_sd_hu <= 50:
            raise BadConfig("out of range", where="serial or offset_sd_hu", mend="at least 0, and 0 to 50 HU")

    def _require(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if value is not None and not low <= value <= high:
            raise SuspectedUnit(f"{name} is outside {low:g} to {high:g}", where=f"{value:g}", mend="mm, deg, HU, %")


def preset_scan(phantom: str = "B-MAS200", *, serial: int = 1) -> ScanOptions:
    """A clinical QCT of the hips with every effect on: 120 kVp, 500 mm field, 2 mm slices, standard kernel."""
    return ScanOptions(
        phantom=phantom,
        serial=serial,
        phantom_tilt_deg=1.0,
        phantom_shift_mm=8.0,
        table=True,
        kvp=120.0,
        pixel_mm=500.0 / 512.0,
        fov_mm=500.0,
        padding_hu=-2048,
        interval_mm=2.0,
        thickness_mm=2.5,
        profile="bell",
        kernel="standard",
        noise_hu=12.0,
        cupping_hu=6.0,
        drift_percent=0.3,
        offset_sd_hu=2.0,
    )


_SCAN_NAMES = {
    one.name: one.name if one.name.startswith("phantom") else f"scan_{one.name}" for one in fields(ScanOptions)
}


@dataclass(frozen=True)
class CtOptions:
    """What is written as a subject's CT: the patient with plain noise, or a QCT scan, by default as `preset_scan`."""

    scan: Literal["none", "qct"] = option(
        "qct: a QCT scan with phantom, table, kernel ... in place of plain noise", "none"
    )
    ct_format: Literal["nifti", "dicom"] = option("format of the CTs", "nifti")
    scanner: ScanOptions = field(default_factory=preset_scan, metadata=part(names=_SCAN_NAMES))
