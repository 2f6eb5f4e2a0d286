"""The projector's threads below a fork, as data loaders and job runners make it."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from hierbmd.drr.cpu import CpuProjector
from hierbmd.geometry import Camera, Placement, View

_PATIENCE_S = 30.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_projects_like_its_parent(blob_scene):
    projector = CpuProjector(blob_scene, threads=2)
    pose = Placement(View.AP, blob_scene.grid.centre_world_mm, 500.0).camera_from_world()
    camera = Camera(1000.0, (40, 48), (1.6, 1.4))
    before = projector.image(camera, pose)
    child = os.fork()
    if child == 0:
        same = np.array_equal(projector.image(camera, pose), before)
        sys.stdout.flush()
        os._exit(0 if same else 1)
    assert _status(child) == 0


def _status(child: int) -> int:
    """The exit status of a child; one that does not end is killed, which shows as -9."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
