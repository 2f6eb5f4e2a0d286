"""Part first_call: what the first projection of a process costs, with nothing compiled and with the kernels cached.

Run as a script it is one such process and prints its seconds as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any


def first_call() -> dict[str, Any]:
    """Seconds to import, to make the first projector (which compiles) and to project first, cold, then warm."""
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            done = subprocess.run(
                [sys.executable, __file__], capture_output=True, text=True, check=True, env=environment
            )
            out[name] = json.loads(done.stdout.splitlines()[-1])
    return out


def main() -> None:
    """Project a few voxels and print how long each step took."""
    started = time.perf_counter()
    from tasks import body

    from hierbmd.drr.cpu import CpuProjector

    imported = time.perf_counter()
    task = body((12, 12, 12), 16, 1)
    made = time.perf_counter()
    projector = CpuProjector(task.scene)
    compiled = time.perf_counter()
    projector.image_and_jacobian(task.camera, task.pose, task.scene.grid.centre_world_mm)
    first = time.perf_counter()
    projector.image_and_jacobian(task.camera, task.pose, task.scene.grid.centre_world_mm)
    ends = {"import_s": imported - started, "projector_s": compiled - made, "first_image_s": first - compiled}
    print(json.dumps(ends | {"second_image_s": time.perf_counter() - first}))


if __name__ == "__main__":
    main()
