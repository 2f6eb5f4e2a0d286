"""Agreement figures of two series of BMD values, with intervals over patients. Made-up values; research use only.

python examples/agreement.py
"""

import numpy as np

from hierbmd.evaluation.agreement import agreement
from hierbmd.evaluation.precision import precision

generator = np.random.default_rng(0)
patients = [f"patient {number}" for number in range(30)]
reference_g_cm2 = generator.normal(0.85, 0.13, len(patients))

# Each patient is read twice: a bias of +0.02 and an error of 0.04 g/cm2.
predicted_g_cm2 = np.repeat(reference_g_cm2, 2) + generator.normal(0.02, 0.04, 2 * len(patients))
twice = np.repeat(patients, 2).tolist()

for name, figure in agreement(predicted_g_cm2, np.repeat(reference_g_cm2, 2), twice).items():
    print(f"{name:20} {figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f}) {figure.unit}")

found = precision(predicted_g_cm2, twice)
print(f"least significant change {found.lsc.value:.3f} g/cm2 at {found.degrees_of_freedom} degrees of freedom")
