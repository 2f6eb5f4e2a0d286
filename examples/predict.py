"""Read both hips of a radiograph with a trained model. Research use only.

    python examples/predict.py [RUN RADIOGRAPH]

Without arguments it takes the model and a radiograph that `make demo` left in out/demo.
"""

import sys
from pathlib import Path

from hierbmd.data.density import REFERENCES, DensityClass
from hierbmd.data.halves import sides_shown
from hierbmd.io.radiograph import read_radiograph
from hierbmd.predict import load_predictor, predict_radiograph

if len(sys.argv) == 3:
    run, path = map(Path, sys.argv[1:])
else:
    run = Path("out/demo/runs/regress")
    path = next(Path("out/demo/cohort/subjects").glob("*/radiograph_00.dcm"))

reference = REFERENCES["nhanes3-female-total-hip"]
predictor, radiograph = load_predictor(run), read_radiograph(path)
for side in sides_shown(radiograph):
    prediction, _ = predict_radiograph(radiograph, predictor, side)
    bmd = prediction.bmd
    t_score = reference.t_score(bmd.value_g_cm2)
    print(f"{side} {bmd.region}: {bmd.value_g_cm2:.3f} g/cm2, interval {bmd.interval_g_cm2}")
    print(f"  T {t_score:+.1f} ({DensityClass.of(t_score).value}; {reference.name})")
    print("  " + "; ".join(prediction.flags))
