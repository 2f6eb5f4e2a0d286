"""A virtual X-ray of a virtual patient: what each bone weighs on the image, in g/cm2. Simulated; research use only.

python examples/drr_of_a_phantom.py [FOLDER]
"""

import sys
from pathlib import Path

from hierbmd.drr.projector import make_projector
from hierbmd.drr.scene import Quantity, make_scene
from hierbmd.geometry import Camera, Motion, Placement, View
from hierbmd.io.image import write_png
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

out = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples")
patient = virtual_patient(0, PatientOptions(spacing_mm=4.0))

camera = Camera(sdd_mm=1000.0, size_px=(224, 192), pixel_mm=(2.0, 2.0))
place = Placement(View.AP, patient.volume.grid.centre_world_mm, source_isocentre_mm=850.0)
pose = place.camera_from_world(Motion(rx_deg=3.0, tx_mm=5.0))

bones = ("femur_left", "femur_right", "hip_left", "hip_right")
attenuation = make_projector(make_scene(patient.volume, quantity=Quantity.ATTENUATION)).image(camera, pose)
scene = make_scene(patient.density, patient.labels, quantity=Quantity.DENSITY, structures=bones)
density = make_projector(scene).image(camera, pose)

write_png(out / "attenuation.png", attenuation[0])
for name, image in zip(bones, density, strict=True):
    write_png(out / f"{name}.png", image, window=(0.0, 2.0))
    print(f"{name}: up to {image.max():.2f} g/cm2")
print(f"pictures in {out}")
