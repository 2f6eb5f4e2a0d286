"""Find a femur of a CT on a radiograph taken at another pose, and see how far off it is. Simulated; research use only.

python examples/register_a_bone.py
"""

import numpy as np

from hierbmd.geometry import Camera, Motion, Placement, ProjectionGeometry, Side, View
from hierbmd.registration.options import RegistrationOptions
from hierbmd.registration.patient import register_bones
from hierbmd.rigid import transform_points
from hierbmd.simulation.options import PatientOptions, RadiographSimulationOptions
from hierbmd.simulation.patient import virtual_patient
from hierbmd.simulation.radiograph import simulate_radiograph

patient = virtual_patient(0, PatientOptions(spacing_mm=3.0))
camera = Camera(sdd_mm=1000.0, size_px=(320, 256), pixel_mm=(1.4, 1.4))
place = Placement(View.AP, patient.volume.grid.centre_world_mm, source_isocentre_mm=850.0)

truth = place.camera_from_world(Motion(rx_deg=2.0, ry_deg=-3.0, rz_deg=1.0, tx_mm=6.0, ty_mm=-4.0))
radiograph = simulate_radiograph(
    patient.body,
    patient.labels,
    ProjectionGeometry(camera, truth, View.AP, Side.BOTH),
    options=RadiographSimulationOptions(step_mm=2.0, table=False),
    seed=1,
)

start = ProjectionGeometry(camera, place.camera_from_world(), View.AP, Side.BOTH)
options = RegistrationOptions(starts=2)
found = register_bones(patient.volume, patient.labels, radiograph, start, bones=("femur_right",), options=options)
bone = found["femur_right"]

voxels = np.argwhere(patient.labels.mask("femur_right")).astype(float)
points = transform_points(patient.labels.grid.world_from_index, voxels)
off_mm = transform_points(bone.camera_from_world, points) - transform_points(truth, points)
print(f"femur_right: {bone.outcome.value}")
print(
    f"in plane {np.linalg.norm(off_mm[:, :2], axis=1).mean():.2f} mm off, {np.abs(off_mm[:, 2]).mean():.1f} mm in depth"
)
