"""RTK's Joseph forward projector as a process of its own: jobs as JSON lines on stdin, answers on stdout.

Runs in an environment that holds itk-rtk and nothing of this project (`outside.py` makes it). Jobs, by their key "do":
load (values (nk, nj, ni) as .npy, origin, spacing, threads), aim (source, detector, row, column in world mm, size_px,
pixel_mm, principal_px), project (out: a .npy for the image, or nothing), memory (peak of the process in MB).
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import itk
import numpy as np

rtk = itk.RTK
Image = itk.Image[itk.F, 3]


class Worker:
    """One volume, one geometry, and the filter between them."""

    def load(self, job: dict[str, Any]) -> dict[str, Any]:
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(job["threads"])
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(job["threads"])
        # The image is a view of the array, so that the volume is held once.
        self.values = np.load(job["values"])
        self.volume = itk.image_view_from_array(self.values)
        self.volume.SetOrigin(job["origin"])
        self.volume.SetSpacing(job["spacing"])
        return {"version": version("itk-rtk")}

    def aim(self, job: dict[str, Any]) -> dict[str, Any]:
        geometry = rtk.ThreeDCircularProjectionGeometry.New()
        if not geometry.AddProjection(job["source"], job["detector"], job["row"], job["column"]):
            raise ValueError("RTK refuses the geometry")
        blank = rtk.ConstantImageSource[Image].New()
        (width, height), (du, dv), (u0, v0) = job["size_px"], job["pixel_mm"], job["principal_px"]
        blank.SetOrigin([-u0 * du, -v0 * dv, 0.0])
        blank.SetSpacing([du, dv, 1.0])
        blank.SetSize([width, height, 1])
        blank.Update()
        self.filter = rtk.JosephForwardProjectionImageFilter[Image, Image].New()
        self.filter.SetInput(0, blank.GetOutput())
        self.filter.SetInput(1, self.volume)
        self.filter.SetGeometry(geometry)
        # In place it would eat its blank image, which is then gone for the second repetition.
        self.filter.InPlaceOff()
        return {}

    def project(self, job: dict[str, Any]) -> dict[str, Any]:
        self.filter.Modified()
        start = time.perf_counter()
        self.filter.Update()
        seconds = time.perf_counter() - start
        if job.get("out"):
            np.save(job["out"], itk.array_from_image(self.filter.GetOutput())[0])
        return {"seconds": seconds}

    def memory(self, job: dict[str, Any]) -> dict[str, Any]:
        # Not getrusage's: the peak of the process that started this one is in that.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return {"peak_mb": next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024}


def main() -> None:
    worker = Worker()
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(getattr(worker, job["do"])(job)), flush=True)


if __name__ == "__main__":
    main()
