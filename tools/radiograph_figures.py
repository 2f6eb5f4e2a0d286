"""Draw the pictures of docs/simulation.md: `python tools/radiograph_figures.py ../shared/data docs/images`.

Effects of a realistic radiograph one by one; realistic radiographs of virtual patients beside those of real CTs, with
histograms and power spectra of both beside real radiographs (of which no pixel is shown); patients from one real CT.
`--only NAME` draws one: effects, statistics, beside, from_ct.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from hierbmd.anatomy.shape import subgrid
from hierbmd.data.volume import Volume
from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.radiograph import read_radiograph
from hierbmd.rigid import transform_points
from hierbmd.simulation.acquisition import draw_acquisition
from hierbmd.simulation.basis import without_table
from hierbmd.simulation.bone_motion import with_moved_bones
from hierbmd.simulation.cases import Case
from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions, StudyOptions
from hierbmd.simulation.patient import VirtualPatient, virtual_patient
from hierbmd.simulation.poses import draw_femur_motions
from hierbmd.simulation.radiograph import expose, materials_of
from hierbmd.simulation.real_case import real_case
from hierbmd.simulation.real_original import RealCt

PLAIN = RadiographSimulationOptions(table=False)
REALISTIC = RadiographSimulationOptions(table=False, realism="realistic")
EFFECTS: dict[str, RadiographSimulationOptions] = {
    "plain": PLAIN,
    "heel effect": RadiographSimulationOptions(table=False, heel=True),
    "collimation": RadiographSimulationOptions(table=False, collimation=True),
    "marker": RadiographSimulationOptions(table=False, marker=True),
    "multi-scale contrast": RadiographSimulationOptions(table=False, multiscale=True),
    "realistic": REALISTIC,
}


def main() -> None:
    """Write the figures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("effects", "statistics", "beside", "from_ct"))
    parser.add_argument("--pelvis-labels", type=Path, help="label map of pelvis-ct, for from_ct; torso-ct without")
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    folder, out = arguments.data, arguments.out
    if arguments.only in (None, "from_ct"):
        draw_from_ct(folder, arguments.pelvis_labels, out / "from_ct.png")
    if arguments.only == "from_ct":
        return
    person = virtual_patient(1, PatientOptions(seed=1, spacing_mm=2.0))
    pelvis = read_volume(folder / "pelvis-ct" / "pelvis_hips_crop_hu.nii.gz")
    if arguments.only in (None, "beside"):
        pelves = as_long_as(person, pelvis), without_table(pelvis)
        draw_beside(pelves, lumbar_bodies(folder), out / "virtual_beside_real.png")
    if arguments.only in (None, "effects"):
        torso = read_volume(folder / "torso-ct" / "example_ct.nii.gz")
        draw_effects(person.body, pelvis, torso, out / "radiograph_effects.png")
    if arguments.only in (None, "statistics"):
        draw_statistics(person.body, pelvis, folder, out / "radiograph_statistics.png")


def taken(
    body: Volume, options: RadiographSimulationOptions, seed: int, size_px: tuple[int, int] = (280, 300)
) -> NDArray[np.float32]:
    """A radiograph of 1.4 mm pixels as shares of its depth, (H, W)."""
    pose = Placement(View.AP, body.grid.centre_world_mm, 1000.0).camera_from_world(Motion(rz_deg=1.0))
    geometry = ProjectionGeometry(Camera(1150.0, size_px, (1.4, 1.4)), pose, View.AP, Side.BOTH)
    image = expose(materials_of(body, options), geometry, options=options, seed=seed).pixels
    if not options.display:
        return image
    return image / (2 ** draw_acquisition(options, geometry, seed).storage.bits - 1)


def draw_effects(patient: Volume, pelvis: Volume, torso: Volume, path: Path) -> None:
    """Two rows: one patient under one effect after another, then realistic radiographs of it and of real CTs."""
    shown = [(name, taken(patient, options, 9)) for name, options in EFFECTS.items()]
    shown += [(f"realistic, seed {seed}", taken(patient, REALISTIC, seed)) for seed in (4, 7, 13)]
    real = RadiographSimulationOptions(realism="realistic")
    shown += [("real CT: torso", taken(torso, real, 2)), ("real CT: pelvis", taken(pelvis, real, 2, (350, 190)))]
    shown += [("real CT: pelvis", taken(pelvis, real, 7, (350, 190)))]
    figure, axes = plt.subplots(2, 6, figsize=(15, 5.6))
    for axis, (name, image) in zip(axes.ravel(), shown, strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=72)


def draw_statistics(patient: Volume, pelvis: Volume, data: Path, path: Path) -> None:
    """Histograms of display values in the middle, and radial power spectra there, at pixels of 1.4 mm."""
    images = {
        "virtual, plain": taken(patient, PLAIN, 4),
        "virtual, realistic": taken(patient, REALISTIC, 4),
        "pelvis CT, plain": taken(pelvis, RadiographSimulationOptions(), 4, (350, 190)),
        "pelvis CT, realistic": taken(pelvis, RadiographSimulationOptions(realism="realistic"), 4, (350, 190)),
    }
    for name, file in (("real chest", "RG1_J2KR.dcm"), ("real tibia", "RG3_J2KR.dcm")):
        radiograph = read_radiograph(data / "radiographs" / file)
        spacing = (radiograph.pixel_mm or (0.2, 0.2))[0]
        factor = max(round(1.4 / spacing), 1)
        height, width = (n // factor * factor for n in radiograph.pixels.shape)
        blocks = radiograph.pixels[:height, :width].reshape(height // factor, factor, width // factor, factor)
        mean = blocks.mean(axis=(1, 3))
        low, high = np.quantile(mean, (0.005, 0.995))
        images[name] = np.clip((mean - low) / (high - low), 0, 1).astype(np.float32)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for name, image in images.items():
        rows, columns = (slice((n - 128) // 2, (n - 128) // 2 + 128) for n in image.shape)
        middle = image[rows, columns]
        left.hist(middle.ravel(), bins=60, range=(0, 1), histtype="step", density=True, label=name)
        frequency, power = radial_power(middle, 1.4)
        right.loglog(frequency, power, label=name)
        print(f"{name:22s} {spectrum_in_words(frequency, power)}")
    left.set_xlabel("share of display depth")
    right.set_xlabel("spatial frequency, 1/mm")
    right.set_ylabel("power")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=72)


BELOW_HEADS_MM = 62.0
"""How far pelvis-ct reaches below the femoral heads' centres."""

LINE_INTEGRAL = RadiographSimulationOptions(
    monoenergetic_kev=70.0, scatter=False, noise=False, display=False, focal_spot_mm=0.0, screen_mm=0.0, table=False
)


def as_long_as(person: VirtualPatient, real: Volume) -> Volume:
    """The part of a virtual patient's body that a real CT of this length shows."""
    grid = person.body.grid
    low_mm = np.mean([centre[2] for centre in person.hip_centres_world_mm.values()]) - BELOW_HEADS_MM
    first = max(round(float((low_mm - grid.world_from_index[2, 3]) / grid.spacing_mm[2])), 0)
    slices = round(float(real.grid.shape[2] * real.grid.spacing_mm[2] / grid.spacing_mm[2]))
    ni, nj, nk = grid.shape
    box = (slice(0, ni), slice(0, nj), slice(first, min(first + slices, nk)))
    return Volume(person.body.values[box], subgrid(grid, box))


def around(body: Volume, centre_world_mm: NDArray[np.float64], half_height_mm: float) -> Volume:
    """The slices of a body within a height of a point, as a scan of that part alone shows it."""
    grid = body.grid
    upper = np.abs(grid.world_from_index[2, 2])
    middle = transform_points(grid.index_from_world, centre_world_mm)[2]
    first, last = (round(float(middle + sign * half_height_mm / upper)) for sign in (-1, 1))
    ni, nj, nk = grid.shape
    box = (slice(0, ni), slice(0, nj), slice(max(first, 0), min(last, nk)))
    return Volume(body.values[box], subgrid(grid, box))


def lumbar_bodies(data: Path) -> tuple[Volume, Volume]:
    """A virtual patient's and torso-ct's body about L3, 220 mm high."""
    person = virtual_patient(1, PatientOptions(seed=1, spacing_mm=2.0, coverage="torso"))
    torso = RealCt(data / "torso-ct" / "example_ct.nii.gz", data / "torso-ct" / "example_ct_totalseg_labels.nii.gz")
    case = real_case(0, torso, seed=0)
    at = person.aims_world_mm["lumbar"], case.aims_world_mm["lumbar"]
    return around(person.body, at[0], 110.0), around(without_table(case.body), at[1], 110.0)


def draw_beside(pelves: tuple[Volume, Volume], spines: tuple[Volume, Volume], path: Path) -> None:
    """Virtual beside real: AP pelvis as line integrals at 70 keV and as radiographs, AP lumbar spine as a radiograph;
    histograms of both where the body is, and their radial power spectra."""
    rows = (
        ("line integral at 70 keV", LINE_INTEGRAL, pelves, "pelvis-ct", (350, 190)),
        ("radiograph, plain", PLAIN, pelves, "pelvis-ct", (350, 190)),
        ("radiograph, realistic", REALISTIC, pelves, "pelvis-ct", (350, 190)),
        ("lumbar radiograph, plain", PLAIN, spines, "torso-ct", (300, 180)),
    )
    figure, axes = plt.subplots(len(rows), 4, figsize=(16, 3 * len(rows)))
    for row, (look, options, bodies, real, size_px) in zip(axes, rows, strict=True):
        for axis, name, body in zip(row, ("virtual", real), bodies, strict=False):
            image = taken(body, options, 4, size_px)
            seen = image > 0.4 if options is LINE_INTEGRAL else image > 0.02
            axis.imshow(image, cmap="gray", vmin=0, vmax=8 if options is LINE_INTEGRAL else 1)
            axis.set_title(f"{name}: {look}", fontsize=9)
            axis.axis("off")
            rows_px, columns_px = (slice(n // 2 - 64, n // 2 + 64) for n in image.shape)
            row[2].hist(image[seen], bins=60, histtype="step", density=True, label=name)
            frequency, power = radial_power(image[rows_px, columns_px], 1.4)
            row[3].loglog(frequency, power / power[frequency < 0.03].mean(), label=name)
            print(f"{look:26s} {name:10s} {spectrum_in_words(frequency, power)}  mean {image[seen].mean():.2f}"
                  f" SD {image[seen].std():.2f}")  # fmt: skip
        row[2].set_xlabel("line integral" if options is LINE_INTEGRAL else "share of display depth")
        row[3].set_xlabel("spatial frequency, 1/mm")
        row[3].set_xticks((0.02, 0.05, 0.1, 0.2), labels=("0.02", "0.05", "0.1", "0.2"))
        row[3].minorticks_off()
        row[3].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=64)


def draw_from_ct(data: Path, pelvis_labels: Path | None, path: Path) -> None:
    """A real CT and three patients made from it: an axial and a coronal plane through the right hip, and a radiograph
    with the femora turned."""
    files = RealCt(data / "torso-ct" / "example_ct.nii.gz", data / "torso-ct" / "example_ct_totalseg_labels.nii.gz")
    if pelvis_labels is not None:
        files = RealCt(data / "pelvis-ct" / "pelvis_hips_crop_hu.nii.gz", pelvis_labels)
    figure, axes = plt.subplots(3, 4, figsize=(15, 11.5 if pelvis_labels is None else 9.5))
    for column, index in zip(axes.T, (0, 1, 3, 4), strict=True):
        case = real_case(index, files, seed=5)
        facts = case.facts
        words = "original"
        if index:
            size = np.prod(facts["size_factor_by_axis"]) ** (1 / 3)
            words = (
                f"trabeculae x{facts['trabecular_density_factor']:.2f}, cortex x{facts['cortical_density_factor']:.2f}"
            )
            words += f", size x{size:.2f}, BMI {facts['bmi_change_kg_m2']:+.1f}"
        column[0].set_title(words, fontsize=8)
        show_planes(column, case)
        column[2].imshow(with_turned_femora(case, index), cmap="gray")
        for axis in column:
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=64)


def show_planes(axes: Sequence[Any], case: Case) -> None:
    """An axial and a coronal plane through the right femoral head, patient's left on the right, front and head up."""
    grid, hu = case.scan.grid, case.scan.values
    _, j, k = np.rint(transform_points(grid.index_from_world, case.hip_centres_world_mm["right"])).astype(int)
    for axis, plane, down in ((axes[0], hu[:, :, k].T, 1), (axes[1], hu[:, j, :].T, 2)):
        upward = grid.world_from_index[down, down] * (-1 if down == 1 else 1) > 0
        shown = plane[::-1] if upward else plane
        shown = shown[:, ::-1] if grid.world_from_index[0, 0] < 0 else shown
        aspect = grid.spacing_mm[down] / grid.spacing_mm[0]
        axis.imshow(shown, cmap="gray", vmin=-200, vmax=600, aspect=aspect)


def with_turned_femora(case: Case, index: int) -> NDArray[np.float32]:
    """A plain AP radiograph of a case, the femora of all but number 0 turned about their heads."""
    rng, grid = np.random.default_rng(index), case.scan.grid
    spread = StudyOptions(femur_deg=5.0 if index else 0.0)
    turned = draw_femur_motions(rng, spread, case.hip_centres_world_mm, case.labels.names_present)
    body = with_moved_bones(materials_of(case.body, RadiographSimulationOptions()), case.labels, turned)
    tall = int(grid.shape[2] * grid.spacing_mm[2] / 1.2)
    pose = Placement(View.AP, grid.centre_world_mm, 1000.0).camera_from_world()
    geometry = ProjectionGeometry(Camera(1150.0, (330, tall), (1.4, 1.4)), pose, View.AP, Side.BOTH)
    return expose(body, geometry, options=PLAIN, seed=3).pixels


def spectrum_in_words(frequency: NDArray[np.float64], power: NDArray[np.float64]) -> str:
    """The slope of a log-log spectrum from 0.03 to 0.25 /mm, and how much is left at the fine end."""
    band = (frequency > 0.03) & (frequency < 0.25)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    fine = power[frequency > 0.28].mean() / power[(frequency > 0.04) & (frequency < 0.06)].mean()
    return f"slope {slope:.2f}  share of 0.28-0.36 /mm over 0.05 /mm {fine:.2e}"


def radial_power(image: NDArray[np.float32], pixel_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spatial frequencies in 1/mm and the mean power there, of an image under a Hann window."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None, :]
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, pixel_mm) for n in image.shape), indexing="ij"))
    edges = np.linspace(0.012, 0.5 / pixel_mm, 36)
    which = np.digitize(frequency.ravel(), edges)
    means = [power.ravel()[which == n].mean() for n in range(1, len(edges))]
    return 0.5 * (edges[1:] + edges[:-1]), np.array(means)


if __name__ == "__main__":
    main()
