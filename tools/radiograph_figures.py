"""Draw the pictures of docs/simulation.md: `python tools/radiograph_figures.py ../shared/data docs/images`.

Effects of a realistic radiograph one by one, realistic radiographs of virtual patients beside those of real CTs, and
histograms and power spectra of both beside real radiographs (of which no pixel is shown).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.volume import Volume
from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.radiograph import read_radiograph
from hierbmd.simulation.acquisition import draw_acquisition
from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions
from hierbmd.simulation.patient import virtual_patient
from hierbmd.simulation.radiograph import expose, materials_of

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
    """Write both figures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    patient = virtual_patient(1, PatientOptions(seed=1, spacing_mm=2.0)).body
    pelvis = read_volume(arguments.data / "pelvis-ct" / "pelvis_hips_crop_hu.nii.gz")
    torso = read_volume(arguments.data / "torso-ct" / "example_ct.nii.gz")
    draw_effects(patient, pelvis, torso, arguments.out / "radiograph_effects.png")
    draw_statistics(patient, pelvis, arguments.data, arguments.out / "radiograph_statistics.png")


def taken(
    body: Volume, options: RadiographSimulationOptions, seed: int, size_px: tuple[int, int] = (280, 300)
) -> NDArray[np.float32]:
    """A radiograph of 1.4 mm pixels as shares of its depth, (H, W)."""
    pose = Placement(View.AP, body.grid.centre_world_mm, 1000.0).camera_from_world(Motion(rz_deg=1.0))
    geometry = ProjectionGeometry(Camera(1150.0, size_px, (1.4, 1.4)), pose, View.AP, Side.BOTH)
    image = expose(materials_of(body, options), geometry, options=options, seed=seed).pixels
    return image / (2 ** draw_acquisition(options, geometry, seed).storage.bits - 1)


def draw_effects(patient: Volume, pelvis: Volume, torso: Volume, path: Path) -> None:
    """Two rows: one patient under one effect after another, then realistic radiographs of it and of real CTs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

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
        band = (frequency > 0.03) & (frequency < 0.25)
        slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
        fine = power[frequency > 0.28].mean() / power[(frequency > 0.04) & (frequency < 0.06)].mean()
        print(f"{name:22s} slope {slope:.2f}  share of 0.28-0.36 /mm over 0.05 /mm {fine:.2e}")
    left.set_xlabel("share of display depth")
    right.set_xlabel("spatial frequency, 1/mm")
    right.set_ylabel("power")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=72)


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
